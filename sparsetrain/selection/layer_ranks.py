"""Order statistics of all layers at once, each at a rank of its own that may move: by counting, without a sort."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sparsetrain import varying
from sparsetrain.kernels.pattern import magnitude_patterns, nan_pattern
from sparsetrain.selection import bracket as brackets
from sparsetrain.selection import shards
from sparsetrain.selection.bracket import Bracket
from sparsetrain.selection.layers import Layers, by_leaf, counts

FOLDS = 5  # how often an axis is halved before it is reduced
# First thresholds around a guess, in octaves: the threshold of the round before is off by percents.
AROUND = (-0.5, -0.1, 0.0, 0.1, 0.5)


class Ranked(NamedTuple):
    """What lies on both sides of the k_l-th largest magnitude of each leaf, as patterns.

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


def ranked(
    layers: Layers, k: jax.Array, guess: jax.Array, is_asked: jax.Array | None = None
) -> Ranked:
    """Cuts each leaf after its k_l largest magnitudes.

    All leaves are searched in the same passes, five thresholds each: some five passes with a good
    guess, eight without one.

    Args:
      layers: the leaves.
      k: [L] int32, 0 <= k_l <= N_l.
      guess: [L] patterns near the k_l-th largest magnitudes; 0 for none. Whatever it is, the
        result is the same.
      is_asked: [L] bool; what is returned of other leaves means nothing. None: all.

    Returns:
      See `Ranked`.

    Example:
      >>> from sparsetrain.selection.layers import arrange
      >>> layers = arrange([jnp.array([1.0, -3.0, 2.0]), jnp.array([5.0])])
      >>> both = ranked(layers, jnp.array([2, 0]), jnp.zeros(2, jnp.int32))
      >>> both.reached.tolist(), both.most_out[1] == magnitude_patterns(jnp.array(5.0))
      ([2, 0], Array(True, dtype=bool))
    """
    if is_asked is None:
        # Behind a barrier, so that the branches stay: joined into one large kernel, what is computed
        # of single leaves takes eight times as long.
        is_asked = lax.optimization_barrier(jnp.ones(k.shape, bool))
    found = cuts(layers, jnp.maximum(k, 1), guess, is_asked)
    above = jnp.asarray(nan_pattern(layers.rows.dtype) + 1, layers.rows.dtype)
    cut = jnp.where(k > 0, found.lower, above)
    reached = jnp.where(k > 0, found.at_lower, 0)
    # At a cut above everything the least entry that reaches it is `above`, and the most below it the
    # largest of all: what k = 0 means.
    least_in = _extreme(layers, cut, is_asked, is_least=True)
    most_out = _extreme(layers, cut, is_asked, is_least=False)
    return Ranked(cut, reached, least_in, jnp.where(reached > k, least_in, most_out))


def at_common_cut(layers: Layers, cut: jax.Array, k: jax.Array | int) -> tuple[jax.Array, Ranked]:
    """Shares k entries out among the leaves by one cut: all that exceed it, and of the ties the first.

    Args:
      layers: the leaves.
      cut: pattern that k entries of all leaves reach, or more if some are tied.
      k: how many in all.

    Returns:
      counts: [L] int32, sum k; ties go to the earlier leaf.
      at: the cut of every leaf, for `largest`; nothing lies between its two sides.

    Example:
      >>> from sparsetrain.selection.layers import arrange
      >>> layers = arrange([jnp.array([1.0, 3.0]), jnp.array([3.0, 3.0])])
      >>> at_common_cut(layers, magnitude_patterns(jnp.array(3.0)), 2)[0].tolist()
      [1, 1]
    """
    leaves = len(layers.leaves)
    above_too = jnp.arange(2, dtype=cut.dtype)
    found = counts(layers, jnp.tile(cut + above_too, (leaves, 1)), jnp.ones((leaves,), bool))
    above, ties = found[:, 1], found[:, 0] - found[:, 1]
    before = jnp.cumsum(ties, dtype=jnp.int32) - ties
    left = k - jnp.sum(above, dtype=jnp.int32)
    taken = above + jnp.clip(left - before, 0, ties)
    of_all = jnp.full((leaves,), cut)
    return taken, Ranked(of_all, found[:, 0], of_all, of_all)


def in_this_shard(layers: Layers, k: jax.Array, at: Ranked) -> tuple[jax.Array, Ranked]:
    """What this shard has to take so that all shards together take the k_l largest of each layer.

        k_l here = #{here > cut} + (ties here, but no more than earlier shards have left over)

    Args:
      layers: the leaves, of which each is one shard of a layer.
      k: [L] int32, entries of each layer in all shards.
      at: `ranked(layers, k)`, or of `at_common_cut`.

    Returns:
      k: [L] int32, entries of each leaf here; ties go to the earlier shard.
      at: as for these leaves alone, for `largest` and `masks`, which look at one shard.

    Example:
      >>> from sparsetrain.selection.layers import arrange
      >>> def here(shard):
      ...     layers, k = arrange([shard], "shards"), jnp.array([3])
      ...     return in_this_shard(layers, k, ranked(layers, k, jnp.zeros(1, jnp.int32)))[0][0]
      >>> jax.vmap(here, axis_name="shards")(jnp.array([[1.0, 2.0], [2.0, 3.0], [2.0, 0.0]])).tolist()
      [1, 2, 0]
    """
    if layers.axis_name is None:
        return k, at
    alone = dataclasses.replace(layers, axis_name=None)
    above_too = jnp.arange(2, dtype=at.cut.dtype)
    found = counts(alone, at.cut[:, None] + above_too[None], jnp.ones(k.shape, bool))
    above, ties = found[:, 1], found[:, 0] - found[:, 1]
    before = shards.earlier(ties, layers.axis_name)
    left = k - shards.total(above, layers.axis_name)
    taken = above + jnp.clip(left - before, 0, ties)
    return taken, at._replace(reached=found[:, 0])


def cuts(layers: Layers, k: jax.Array, guess: jax.Array, is_asked: jax.Array) -> Bracket:
    """Exact brackets [L] of the k_l-th largest magnitudes; the search of `selection.bracket`, for many.

    Args:
      layers: the leaves.
      k: [L] int32, 1 <= k_l <= N_l.
      guess: [L] patterns, see `ranked`.
      is_asked: [L] bool.
    """
    dtype = layers.rows.dtype
    even = jnp.asarray(brackets.even())[None]
    spread = jnp.asarray(brackets.stretched(brackets.SPREAD))[None]
    octave = 1 << (23 if dtype == np.int32 else 52)  # Patterns rise so much when a value doubles.
    offsets = brackets.stretched(AROUND)
    around = guess[:, None] + jnp.array([[int(a * octave) for a in offsets]], dtype)
    around = jnp.clip(around, 1, nan_pattern(dtype))
    narrow = jax.vmap(brackets.narrow)
    start = jax.vmap(lambda n: brackets.widest(1, dtype)._replace(at_lower=n))(layers.sizes)
    wanted = k.astype(jnp.float32)

    def probes_at(bracket: Bracket, places: jax.Array) -> jax.Array:
        # Float rounding may not leave the interior: `width` is not exact in float32.
        width = (bracket.upper - bracket.lower)[:, None]
        offsets = jnp.minimum(jnp.clip(places, 0.0, 1.0), 0.999) * width.astype(jnp.float32)
        return bracket.lower[:, None] + jnp.clip(offsets.astype(dtype), 1, width - 1)

    def goes_on(state: tuple[Bracket, jax.Array, jax.Array]) -> jax.Array:
        return jnp.any(is_asked & ~state[0].is_exact(k))

    def step(state: tuple[Bracket, jax.Array, jax.Array]) -> tuple[Bracket, jax.Array, jax.Array]:
        bracket, shrank, number = state
        inside = bracket.inside()
        log_lower = jnp.log(bracket.at_lower.astype(jnp.float32) + 0.5)
        log_upper = jnp.log(bracket.at_upper.astype(jnp.float32) + 0.5)
        place = (log_lower - jnp.log(wanted)) / (log_lower - log_upper)
        error = jnp.sqrt(jnp.maximum(place * (1.0 - place), 0.0) / inside.astype(jnp.float32))
        is_dense = (shrank & (inside > brackets.FEW))[:, None]
        places = jnp.where(is_dense, place[:, None] + spread * error[:, None], even)
        is_first = ((number == 0) & (guess > 0))[:, None]
        probes = jnp.where(is_first, around, probes_at(bracket, places))
        is_open = is_asked & ~bracket.is_exact(k)
        after = narrow(bracket, k, probes, counts(layers, probes, is_open))
        after = jax.tree.map(lambda new, old: jnp.where(is_open, new, old), after, bracket)
        return after, after.inside() * (spread.shape[1] + 1) <= inside, number + 1

    begin = (start, jnp.zeros(k.shape, bool), jnp.int32(0))
    return varying.while_loop(goes_on, step, begin)[0]


def _extreme(layers: Layers, cut: jax.Array, is_asked: jax.Array, *, is_least: bool) -> jax.Array:
    """[L] pattern of the least entry that reaches the cut, or of the largest that does not."""
    top = jnp.asarray(nan_pattern(cut.dtype) + 1, cut.dtype)
    fill = top if is_least else jnp.asarray(-1, cut.dtype)
    combine, reduce = (jnp.minimum, jnp.min) if is_least else (jnp.maximum, jnp.max)

    def within(values: jax.Array, cut: jax.Array) -> jax.Array:
        """Over the last axis."""
        patterns = magnitude_patterns(values)
        found = jnp.where(patterns >= cut if is_least else patterns < cut, patterns, fill)
        # XLA's CPU backend takes seven times as long to reduce an axis as to combine its halves.
        for _ in range(FOLDS if found.shape[-1] % (1 << FOLDS) == 0 else 0):
            half = found.shape[-1] // 2
            found = combine(found[..., :half], found[..., half:])
        return reduce(found, axis=-1)

    def of_rows(rows: jax.Array) -> jax.Array:
        segment = jax.ops.segment_min if is_least else jax.ops.segment_max
        return by_leaf(segment, within(rows, cut[layers.owner][:, None]), layers)

    def of_leaf(i: int, leaf: jax.Array) -> jax.Array:
        whole = leaf.shape[0] >> FOLDS << FOLDS
        if whole == leaf.shape[0]:
            return within(leaf, cut[i])
        return combine(within(leaf[:whole], cut[i]), within(leaf[whole:], cut[i]))

    found = layers.everywhere(of_rows, of_leaf, fill, is_asked)
    if layers.axis_name is None:
        return found
    return (lax.pmin if is_least else lax.pmax)(found, layers.axis_name)
