"""Masks as words of 32 bits, and the positions of their ones: rank and select on a bit vector.

`jnp.nonzero` scatters once per entry of the mask. Here a mask is read once, into words that are 32
times fewer, and all further work is on words that hold a one.
"""

import jax
import jax.numpy as jnp
from jax import lax

WORD = 32
BLOCK = 32  # entries that one row of a matrix product sums up
FEW_WORDS = 4096  # so many are not worth a level of their own


def pack(mask: jax.Array) -> jax.Array:
    """Packs a mask.

        word_w = sum_b 2^b mask[32 w + b]

    Args:
      mask: [N] bool; XLA fuses the comparison that makes it into the reading.

    Returns:
      [ceil(N / 32)] uint32; missing bits are 0.

    Example:
      >>> import jax.numpy as jnp
      >>> pack(jnp.array([True, False, True])).tolist()
      [5]
    """
    whole = mask.shape[0] // WORD * WORD
    words = _pack_rows(mask[:whole].reshape(-1, WORD))
    if whole == mask.shape[0]:
        return words
    rest = jnp.pad(mask[whole:], (0, whole + WORD - mask.shape[0]))
    return jnp.concatenate([words, _pack_rows(rest[None])])


def _pack_rows(rows: jax.Array) -> jax.Array:
    bits = jnp.left_shift(jnp.uint32(1), jnp.arange(WORD, dtype=jnp.uint32))
    return jnp.sum(jnp.where(rows, bits[None], jnp.uint32(0)), axis=1, dtype=jnp.uint32)


def unpack(words: jax.Array, entries: int) -> jax.Array:
    """The mask that was packed.

    Args:
      words: [ceil(N / 32)] uint32.
      entries: N.

    Returns:
      [N] bool.

    Example:
      >>> import jax.numpy as jnp
      >>> unpack(jnp.array([5], jnp.uint32), 3).tolist()
      [True, False, True]
    """
    bits = words[:, None] >> jnp.arange(WORD, dtype=jnp.uint32)[None]
    return (bits & 1).astype(bool).reshape(-1)[:entries]


def ones(words: jax.Array) -> jax.Array:
    """How many bits of each word are set: int32, same shape."""
    return lax.population_count(words).astype(jnp.int32)


def running_sum(counts: jax.Array) -> jax.Array:
    """Inclusive running sum of small counts, by a matrix product a level.

        s_i = sum_{j <= i} c_j

    XLA's CPU backend computes `jnp.cumsum` in log2(N) passes.

    Args:
      counts: [N] int32, each at most 2^18, so that sums of 32 are exact in float32.

    Returns:
      [N] int32.

    Example:
      >>> import jax.numpy as jnp
      >>> running_sum(jnp.array([3, 0, 1])).tolist()
      [3, 3, 4]
    """
    size = counts.shape[0]
    rows = -(-size // BLOCK)
    padded = jnp.pad(counts, (0, rows * BLOCK - size)).reshape(rows, BLOCK)
    upper = jnp.triu(jnp.ones((BLOCK, BLOCK), jnp.float32))
    inner = jnp.dot(padded.astype(jnp.float32), upper, precision=lax.Precision.HIGHEST)
    inner = inner.astype(jnp.int32)
    sums = inner[:, -1]
    # From here on sums may be large: few are left, so plain integer sums are cheap.
    before = (running_sum(sums) if rows > FEW_WORDS else jnp.cumsum(sums, dtype=jnp.int32)) - sums
    return (inner + before[:, None]).reshape(-1)[:size]


def nth_one(words: jax.Array, rank: jax.Array) -> jax.Array:
    """Place of the one that has `rank` ones before it in its word.

    Args:
      words: uint32, any shape.
      rank: int32, same shape, 0 <= rank < ones in the word; otherwise the result means nothing.

    Returns:
      int32 in 0..31, same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> nth_one(jnp.array([0b10110], jnp.uint32), jnp.array([2])).tolist()
      [4]
    """
    place = jnp.zeros(words.shape, jnp.int32)
    for half in (16, 8, 4, 2, 1):
        low = words & jnp.uint32((1 << half) - 1)
        below = ones(low)
        is_above = rank >= below
        rank = jnp.where(is_above, rank - below, rank)
        words = jnp.where(is_above, words >> half, low)
        place = place + jnp.where(is_above, half, 0)
    return place


def positions(words: jax.Array, k: int, missing: int) -> jax.Array:
    """Positions of the first k ones of a packed mask.

    Args:
      words: [M] uint32.
      k: how many, static, at least 1.
      missing: what stands where there are fewer ones.

    Returns:
      [k] int32, ascending if `missing` is no smaller than 32 M.

    Example:
      >>> import jax.numpy as jnp
      >>> positions(jnp.array([5, 0, 1], jnp.uint32), 4, 96).tolist()
      [0, 2, 64, 96]
    """
    count = words.shape[0]
    if count > max(k, FEW_WORDS):
        # At most k words hold one of the first k ones; find those the same way.
        index = positions(pack(words != 0), k, count)
        words = words.at[index].get(mode="fill", fill_value=0)
    else:
        index = jnp.arange(count, dtype=jnp.int32)
    in_word = ones(words)
    ends = running_sum(in_word)
    starts = ends - in_word
    # Slot j belongs to the last word that starts at or before j: count the starts up to j.
    begun = jnp.zeros((k,), jnp.int32).at[starts].add(1, mode="drop", indices_are_sorted=True)
    owner = running_sum(begun) - 1
    slot = jnp.arange(k, dtype=jnp.int32)
    place = nth_one(words[owner], slot - starts[owner])
    return jnp.where(slot < ends[-1], index[owner] * WORD + place, missing)


def compact(mask: jax.Array, k: int) -> jax.Array:
    """Positions of a mask's ones.

    Args:
      mask: bool of any shape, taken as one list of N < 2^31.
      k: length of the result, at least 1; ones beyond the first k are left out.

    Returns:
      [k] int32, ascending flat positions; N where there are fewer ones. Reading with
      `mode="fill"` and writing with `mode="drop"` skip those.

    Raises:
      ValueError: k < 1.

    Example:
      >>> import jax.numpy as jnp
      >>> compact(jnp.array([False, True, False, True]), 3).tolist()
      [1, 3, 4]
    """
    if k < 1:
        raise ValueError(f"k={k}: the result needs a length of at least 1")
    return positions(pack(mask.reshape(-1)), k, mask.size)


def select(words: jax.Array, rank: jax.Array) -> jax.Array:
    """Position of the one number `rank`, counted from 1, in a packed mask; `rank` may be traced.

    Args:
      words: [M] uint32.
      rank: int32 scalar, 1 <= rank <= number of ones.

    Returns:
      int32 scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> int(select(jnp.array([5, 0, 1], jnp.uint32), 3))
      64
    """
    block = 1024
    rows = -(-words.shape[0] // block)
    counts = jnp.pad(ones(words), (0, rows * block - words.shape[0])).reshape(rows, block)
    ends = jnp.cumsum(jnp.sum(counts, axis=1), dtype=jnp.int32)
    row = jnp.minimum(jnp.sum(ends < rank, dtype=jnp.int32), rows - 1)
    inner = jnp.cumsum(counts[row], dtype=jnp.int32)
    rank = rank - (ends[row] - inner[-1])
    column = jnp.minimum(jnp.sum(inner < rank, dtype=jnp.int32), block - 1)
    word = jnp.minimum(row * block + column, words.shape[0] - 1)
    return word * WORD + nth_one(words[word], rank - (inner[column] - counts[row, column]) - 1)
