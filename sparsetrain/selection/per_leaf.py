"""Order statistics of many arrays at once, each at a rank of its own that may move: by counting, without a sort."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.selection import counting, words
from sparsetrain.selection.bracket import Bracket, narrow, widest
from sparsetrain.selection.counting import PROBES
from sparsetrain.selection.mask import kept
from sparsetrain.selection.pattern import magnitude_patterns, nan_pattern, pattern_dtype


class Ranked(NamedTuple):
    """What lies on both sides of the k_l-th largest magnitude of each array, as patterns.

    Attributes:
      cut: [L], a pattern that k_l entries reach, or more if some are tied with the k_l-th.
      reached: [L] int32, how many reach it.
      least_in: [L], pattern of the k_l-th largest; above every number where k_l = 0.
      most_out: [L], pattern of the next one; -1 where k_l = N_l.
    """

    cut: jax.Array
    reached: jax.Array
    least_in: jax.Array
    most_out: jax.Array


def counts_per_leaf(leaves: Sequence[jax.Array], thresholds: jax.Array) -> jax.Array:
    """How many magnitudes of each array reach thresholds of its own.

    Args:
      leaves: L flat floating arrays.
      thresholds: [L, 5] patterns.

    Returns:
      [L, 5] int32.

    Example:
      >>> thresholds = jnp.tile(magnitude_patterns(jnp.array([2.0]))[None], (2, 5))
      >>> counts_per_leaf([jnp.array([1.0, -2.0]), jnp.array([3.0, 2.0, 0.0])], thresholds)[:, 0].tolist()
      [1, 2]
    """
    return jnp.stack(
        [counting.count_at_least([leaf], thresholds[i]) for i, leaf in enumerate(leaves)]
    )


def ranked(leaves: Sequence[jax.Array], k: jax.Array) -> Ranked:
    """Cuts each array after its k_l largest magnitudes.

    All arrays are searched in the same passes, some twelve of them, five thresholds each.

    Args:
      leaves: L flat floating arrays, none of them empty.
      k: [L] int32, 0 <= k_l <= N_l.

    Returns:
      See `Ranked`.

    Example:
      >>> both = ranked([jnp.array([1.0, -3.0, 2.0]), jnp.array([5.0])], jnp.array([2, 0]))
      >>> both.reached.tolist(), both.most_out[1] == magnitude_patterns(jnp.array(5.0))
      ([2, 0], Array(True, dtype=bool))
    """
    dtype = pattern_dtype(*leaves)
    size = jnp.array([leaf.shape[0] for leaf in leaves], jnp.int32)
    above = jnp.asarray(nan_pattern(dtype) + 1, dtype)
    start = jax.vmap(lambda n: widest(1, dtype)._replace(at_lower=n))(size)
    wanted = jnp.maximum(k, 1)
    share = jnp.arange(1, PROBES + 1, dtype=dtype)

    def goes_on(bracket: Bracket) -> jax.Array:
        return jnp.any(~bracket.is_exact(wanted))

    def step(bracket: Bracket) -> Bracket:
        width = bracket.upper - bracket.lower
        part, rest = (n[:, None] for n in (width // (PROBES + 1), width % (PROBES + 1)))
        offsets = part * share[None] + rest * share[None] // (PROBES + 1)
        probes = bracket.lower[:, None] + jnp.maximum(offsets, 1)
        return jax.vmap(narrow)(bracket, wanted, probes, counts_per_leaf(leaves, probes))

    found = lax.while_loop(goes_on, step, start)
    cut = jnp.where(k > 0, found.lower, above)
    reached = jnp.where(k > 0, found.at_lower, 0)
    least, most = [], []
    for i, leaf in enumerate(leaves):
        patterns = magnitude_patterns(leaf)
        least.append(jnp.min(jnp.where(patterns >= cut[i], patterns, above)))
        most.append(jnp.max(jnp.where(patterns < cut[i], patterns, -1)))
    least_in, most_out = jnp.stack(least), jnp.stack(most)
    return Ranked(cut, reached, least_in, jnp.where(reached > k, least_in, most_out))


def packed_masks(leaves: Sequence[jax.Array], k: jax.Array, at: Ranked) -> list[jax.Array]:
    """Masks of the k_l largest of each array as words of 32 bits; ties go to the lower index.

    Args:
      leaves: as for `ranked`.
      k: as for `ranked`.
      at: what `ranked` returned for them.

    Returns:
      One array of uint32 per leaf, see `words.pack`.
    """
    size = jnp.array([leaf.shape[0] for leaf in leaves], jnp.int32)

    def among_ties() -> jax.Array:
        last = []
        for i, leaf in enumerate(lax.optimization_barrier(list(leaves))):
            tied = words.pack(magnitude_patterns(leaf) == at.cut[i])
            ties = jnp.sum(words.ones(tied), dtype=jnp.int32)
            over = at.reached[i] - k[i]
            chosen = words.select(tied, jnp.maximum(ties - over, 1))
            last.append(jnp.where(over > 0, chosen, leaf.shape[0]))
        return jnp.stack(last)

    last = lax.cond(jnp.any(at.reached > k), among_ties, lambda: size)
    return [words.pack(kept(leaf, at.cut[i], last[i])) for i, leaf in enumerate(leaves)]
