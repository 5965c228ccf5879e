"""The exact k-th largest magnitude of large arrays, found by counting: no sort, no copy.

Three steps. A sample gives a narrow first bracket. Passes over the data, five thresholds each or fifteen
in a kernel, narrow it until it is exact or holds few entries. Of one array those few are then taken out, and the
search ends among them; of several arrays, or shards of arrays, it ends by more passes.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import varying
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.count_above import per_pass
from sparsetrain.kernels.pattern import (
    magnitude_of,
    magnitude_patterns,
    nan_pattern,
    pattern_dtype,
)
from sparsetrain.selection import bracket as brackets
from sparsetrain.selection import counting, shards, words
from sparsetrain.selection.bracket import Bracket
from sparsetrain.selection.shards import AxisName

# A sample of one entry in 64, and of no more than this, is searched in a fraction of a pass.
SAMPLE, SAMPLE_EVERY = 1 << 16, 64
LEAST_SAMPLED = 1 << 19  # entries; fewer are searched sooner without a sample
WIDTH = 3.0  # half-width of the first bracket, in standard deviations of a sample's count
FEW, FEW_OF = 1024, 256  # max(FEW, N / FEW_OF) entries in a bracket are few enough to take out


def kth_magnitude(values: jax.Array, k: int | jax.Array) -> jax.Array:
    """The k-th largest magnitude, exactly.

        sort(|v|, falling)[k - 1]

    Args:
      values: float16, bfloat16, float32 or float64 of any shape, taken as one list.
      k: 1 <= k <= N; may be traced, then it is clipped to that range.

    Returns:
      Scalar, float32 or float64. NaN counts as largest; denormals are told apart.

    Raises:
      TypeError: the values are not floating.
      ValueError: a static k out of range, no entry at all, or float64 without x64.

    Example:
      >>> import jax.numpy as jnp
      >>> float(kth_magnitude(jnp.array([1.0, -3.0, 2.0]), 2))
      2.0
    """
    check_k(k, [values])
    return magnitude_of(find_in_array(lax.stop_gradient(values).reshape(-1), k).lower)


def kth_magnitude_of(
    leaves: Sequence[jax.Array], k: int | jax.Array, axis_name: AxisName = None
) -> jax.Array:
    """The k-th largest magnitude of several arrays together: a threshold that they share.

    Counts are added over the leaves, and over shards where an axis is named; entries are not moved.

    Args:
      leaves: floating arrays of any shape; float64 may not be mixed with others.
      k: counted over all leaves and shards, 1 <= k <= N; may be traced, then it is clipped.
      axis_name: mesh axes over which every leaf is split, inside `shard_map`.

    Returns:
      Scalar, float32 or float64; the same on every shard.

    Raises:
      TypeError: a leaf is not floating.
      ValueError: a static k out of range, no entry at all, or float64 that does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> float(kth_magnitude_of([jnp.array([1.0, -3.0]), jnp.array([[2.0]])], 3))
      1.0
    """
    check_k(k, leaves, axis_name)
    leaves = [lax.stop_gradient(leaf) for leaf in leaves]
    bracket = find(leaves, k, axis_name)
    # The bracket may be exact in its count only; the k-th largest is the least entry within.
    found = [_least(leaf.reshape(-1), bracket.lower) for leaf in leaves]
    least = jnp.min(jnp.stack(found))
    return magnitude_of(least if axis_name is None else lax.pmin(least, axis_name))


def find_in_array(values: jax.Array, k: int | jax.Array) -> Bracket:
    """Where the k-th largest magnitude of one array lies.

    Args:
      values: [N] floating.
      k: clipped to 1..N.

    Returns:
      An exact bracket; `lower` is the pattern of the k-th largest.
    """
    size = values.shape[0]
    few = min(size, max(FEW, size // FEW_OF))
    k = jnp.clip(jnp.asarray(k, jnp.int32), 1, size)
    return _finish(values, k, find([values], k, None, few), few)


def find(
    leaves: Sequence[jax.Array],
    k: int | jax.Array,
    axis_name: AxisName = None,
    enough_inside: int = 0,
) -> Bracket:
    """Where the k-th largest magnitude of several arrays lies, by counting alone.

    Args:
      leaves: floating arrays of any shape.
      k: clipped to 1..N.
      axis_name: mesh axes over which counts are added.
      enough_inside: a bracket that holds no more entries need not be exact.

    Returns:
      A bracket of patterns; if exact, `lower` selects k entries, or all that are tied.
    """
    dtype = pattern_dtype(*leaves)
    merged = counting.merge_small(leaves)
    total = counting.total_size(leaves, axis_name)
    k = jnp.clip(jnp.asarray(k, jnp.int32), 1, total)
    count = _counter(merged, axis_name)
    start = brackets.widest(total, dtype)
    if total >= LEAST_SAMPLED:
        every = max(SAMPLE_EVERY, total // SAMPLE)
        probes = _probes_from_sample(counting.sample(merged, every), k, total, axis_name)
        start = brackets.narrow(start, k, probes, count(probes))
    return brackets.search(count, k, start, enough_inside)


def check_k(k: int | jax.Array, leaves: Sequence[jax.Array], axis_name: AxisName = None) -> None:
    """Refuses a static k that does not fit the entries; a traced one is clipped where it is used.

    Raises:
      ValueError: names k and its range.
    """
    total = counting.total_size(leaves, axis_name)
    if not isinstance(k, jax.Array) and not 1 <= k <= total:
        raise ValueError(f"k={k}: must lie in 1..{total}, the number of entries")


def _counter(leaves: Sequence[jax.Array], axis_name: AxisName) -> Callable[[jax.Array], jax.Array]:
    """thresholds [P] -> counts [P] over all leaves and shards."""

    def count(probes: jax.Array) -> jax.Array:
        # Without the barrier XLA computes all patterns once, ahead of the loop, into fresh memory,
        # and passes over that: three times as slow.
        held, probes = lax.optimization_barrier((list(leaves), probes))
        return shards.total(counting.count_at_least(held, probes), axis_name)

    return count


def _probes_from_sample(
    drawn: jax.Array, k: jax.Array, total: int, axis_name: AxisName
) -> jax.Array:
    """First thresholds [P]: the sample's estimate, one above it, a bracket around both, and 1.

    Estimates are entries of the data. With heavy ties, as of rounded values, the estimate is often
    the very value and the pattern above it proves that; 1 is the least pattern that is not zero.
    What else a pass has room for cuts the bracket evenly.
    """
    size = counting.total_size([drawn], axis_name)
    rank = k.astype(jnp.float32) * (size / total)
    error = WIDTH * jnp.sqrt(jnp.maximum(rank * (1.0 - rank / size), 0.0)) + 2.0
    ranks = jnp.stack([rank + error, rank, rank - error]).astype(jnp.int32)
    low, likely, high = _kth_of_few(drawn, jnp.clip(ranks, 1, size), axis_name)
    probes = jnp.stack([low, likely, likely + 1, high + 1, jnp.ones_like(low)])
    spare = per_pass() - probes.shape[0]
    between = low + (high - low) // (spare + 1) * jnp.arange(1, spare + 1, dtype=low.dtype)
    return jnp.concatenate([probes, between])


def _kth_of_few(patterns: jax.Array, ranks: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """The order statistics [R] of an array that is short enough to be sorted, ranks from the largest on.

    A sort is a few small kernels on an accelerator, where a loop that looks at its data costs more; on a
    CPU it is the other way round, and shards are never sorted together.
    """
    if dispatch.target().platform != "cpu" and axis_name is None:
        return jnp.sort(patterns)[patterns.shape[0] - ranks]
    count, size = _counter([patterns], axis_name), counting.total_size([patterns], axis_name)

    def kth(rank: jax.Array) -> jax.Array:
        start = brackets.widest(size, patterns.dtype)
        return brackets.search(count, rank, start).lower

    # One loop that is compiled once, for the ranks in turn.
    return lax.map(kth, ranks)


def _finish(values: jax.Array, k: jax.Array, bracket: Bracket, capacity: int) -> Bracket:
    """Ends the search of one array among the entries inside the bracket, `capacity` at the most."""
    size = values.shape[0]

    def among_few() -> Bracket:
        patterns = magnitude_patterns(lax.optimization_barrier(values))
        packed = words.pack((patterns >= bracket.lower) & (patterns < bracket.upper))
        index = words.positions(packed, capacity, size)
        few = magnitude_patterns(values.at[index].get(mode="fill", fill_value=0))
        few = jnp.where(index < size, few, -1)
        rank = k - bracket.at_upper
        if dispatch.target().platform != "cpu":
            least = _kth_of_few(few, rank[None])[0]
            reach = [jnp.sum(few >= least + i, dtype=jnp.int32) for i in (0, 1)]
            return Bracket(
                least, least + 1, reach[0] + bracket.at_upper, reach[1] + bracket.at_upper
            )
        start = bracket._replace(at_lower=bracket.inside(), at_upper=jnp.zeros((), jnp.int32))
        found = brackets.search(_counter([few], None), rank, start)
        # The k-th largest itself: the least entry that is selected.
        least = jnp.min(jnp.where(few >= found.lower, few, bracket.upper))
        return Bracket(
            least,
            found.upper,
            found.at_lower + bracket.at_upper,
            found.at_upper + bracket.at_upper,
        )

    def among_all() -> Bracket:
        """Exact in its count with too many inside, which happens for k near N."""
        return bracket._replace(lower=_least(lax.optimization_barrier(values), bracket.lower))

    is_value = bracket.upper - bracket.lower == 1
    is_few = bracket.inside() <= capacity
    branch = jnp.where(is_value, 0, jnp.where(is_few, 1, 2))
    return varying.switch(branch, [lambda: bracket, among_few, among_all])


def _least(values: jax.Array, lower: jax.Array) -> jax.Array:
    """Pattern of the least magnitude at or above `lower`; NaN's where there is none."""
    group = 16  # neighbours: XLA's CPU backend reduces so few as vectors, all at once it does not
    most = jnp.asarray(nan_pattern(lower.dtype), lower.dtype)
    grouped = values.shape[0] // group * group

    def least(values: jax.Array) -> jax.Array:
        patterns = magnitude_patterns(values)
        kept = jnp.where(patterns >= lower, patterns, most)
        return jnp.min(kept, axis=-1, initial=nan_pattern(lower.dtype))

    of_groups = least(values[:grouped].reshape(-1, group))
    return jnp.minimum(jnp.min(of_groups, initial=most), least(values[grouped:]))
