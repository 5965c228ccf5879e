"""The search for a threshold: an interval of patterns that counting narrows until it is exact."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain import varying
from sparsetrain.kernels.count_above import per_pass
from sparsetrain.kernels.pattern import nan_pattern

FEW = 6  # entries in a bracket below which probes are spread evenly
# Probes around the interpolated place, in standard deviations of its error.
SPREAD = (-2.5, -0.8, 0.0, 0.8, 2.5)


class Bracket(NamedTuple):
    """Patterns lower < upper with #{>= lower} >= k > #{>= upper}: the k-th largest is in between.

    Attributes:
      lower: a pattern not above the k-th largest.
      upper: a pattern above the k-th largest.
      at_lower: how many entries are at `lower` or above, at least k.
      at_upper: how many are at `upper` or above, fewer than k.
    """

    lower: jax.Array
    upper: jax.Array
    at_lower: jax.Array
    at_upper: jax.Array

    def is_exact(self, k: jax.Array) -> jax.Array:
        """Whether `lower` selects k entries, or all that are tied with the k-th largest."""
        return (self.at_lower == k) | (self.upper - self.lower == 1)

    def inside(self) -> jax.Array:
        """How many entries lie in it."""
        return self.at_lower - self.at_upper


def even() -> np.ndarray:
    """[P] places that cut an interval of length 1 evenly, as many as a pass counts at."""
    number = per_pass()
    return np.arange(1, number + 1, dtype=np.float32) / np.float32(number + 1)


def stretched(offsets: tuple[float, ...]) -> np.ndarray:
    """[P] offsets over the same range, as many as a pass counts at.

    Example:
      >>> stretched((-2.0, 0.0, 2.0)).tolist()                               # five, on a CPU
      [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    given, wanted = (np.linspace(0.0, 1.0, n) for n in (len(offsets), per_pass()))
    return np.interp(wanted, given, offsets).astype(np.float32)


def widest(entries: int, dtype: jnp.dtype) -> Bracket:
    """The bracket that is true of any `entries` values with patterns of this dtype."""
    return Bracket(
        jnp.zeros((), dtype),
        jnp.asarray(nan_pattern(dtype) + 1, dtype),
        jnp.asarray(entries, jnp.int32),
        jnp.zeros((), jnp.int32),
    )


def narrow(bracket: Bracket, k: jax.Array, probes: jax.Array, counts: jax.Array) -> Bracket:
    """The bracket after probes [P] were counted; probes outside it do no harm."""
    enough = counts >= k
    lower = jnp.max(jnp.where(enough, probes, bracket.lower))
    upper = jnp.min(jnp.where(enough, bracket.upper, probes))
    at_lower = jnp.min(jnp.where(enough, counts, bracket.at_lower))
    at_upper = jnp.max(jnp.where(enough, bracket.at_upper, counts))
    return Bracket(
        jnp.maximum(bracket.lower, lower),
        jnp.minimum(bracket.upper, upper),
        jnp.minimum(bracket.at_lower, at_lower),
        jnp.maximum(bracket.at_upper, at_upper),
    )


def search(
    count: Callable[[jax.Array], jax.Array],
    k: jax.Array,
    start: Bracket,
    enough_inside: int = 0,
) -> Bracket:
    """Narrows a bracket until it is exact, or holds few enough entries.

    Log-counts are nearly linear in patterns, which are nearly linear in log magnitudes. The probes
    stand around the interpolated place, as far apart as counts are uncertain. Where that did not
    shrink the entries inside by P + 1, the next probes cut the interval evenly instead, so
    that every other pass shrinks one of the two: 2 log_6(2^31) + log_6(N) passes at the most,
    whatever the data, with P = 5; 3 or 4 are usual.

    Args:
      count: thresholds [P] -> counts [P], P = `count_above.per_pass()`, a pass over the data.
      k: int32, 1 <= k <= N.
      start: a true bracket.
      enough_inside: stop as soon as no more entries than that are inside.

    Returns:
      A true bracket; exact unless `enough_inside` stopped it.
    """
    k = jnp.asarray(k, jnp.int32)
    wanted = k.astype(jnp.float32)
    spread, evenly = jnp.asarray(stretched(SPREAD)), jnp.asarray(even())

    def goes_on(state: tuple[Bracket, jax.Array]) -> jax.Array:
        bracket, _ = state
        return ~bracket.is_exact(k) & (bracket.inside() > enough_inside)

    def step(state: tuple[Bracket, jax.Array]) -> tuple[Bracket, jax.Array]:
        bracket, shrank = state
        inside = bracket.inside()
        log_lower = jnp.log(bracket.at_lower.astype(jnp.float32) + 0.5)
        log_upper = jnp.log(bracket.at_upper.astype(jnp.float32) + 0.5)
        place = (log_lower - jnp.log(wanted)) / (log_lower - log_upper)
        error = jnp.sqrt(place * (1.0 - place) / inside.astype(jnp.float32))
        interpolated = place + spread * error
        places = jnp.where(shrank & (inside > FEW), interpolated, evenly)
        width = bracket.upper - bracket.lower
        # Float rounding may not leave the interior: `width` up to 2^31 is not exact in float32.
        offsets = jnp.clip(places, 0.0, 1.0) * width.astype(jnp.float32)
        offsets = jnp.minimum(offsets, jnp.float32(0.999) * width.astype(jnp.float32))
        offsets = jnp.clip(offsets.astype(width.dtype), 1, width - 1)
        probes = bracket.lower + offsets
        after = narrow(bracket, k, probes, count(probes))
        return after, after.inside() * (spread.shape[0] + 1) <= inside

    # Nothing can be interpolated between 0 and infinity; what a sample gave can.
    is_narrow = start.at_upper > 0
    bracket, _ = varying.while_loop(goes_on, step, (start, is_narrow))
    return bracket
