"""How much is sent: a number, or a schedule whose largest value fixes the payload's capacity."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sparsetrain import numerics, selection

Schedule = Callable[[jax.Array], jax.Array | float]


@dataclasses.dataclass(frozen=True)
class ScheduledDensity:
    """A density that changes from step to step; made by `scheduled` and `warm_up`.

    Attributes:
      schedule: step (int32 scalar) -> density.
      largest: the most it ever returns; the payload has room for that.
    """

    schedule: Schedule
    largest: float


Density = float | ScheduledDensity


def check(density: Density, name: str = "density") -> Density:
    """The density, or an error that names the cure.

    Raises:
      ValueError: outside (0, 1], traced, or a plain function.
    """
    if isinstance(density, ScheduledDensity):
        return density
    if callable(density):
        raise ValueError(
            f"{name}={density!r}: a payload needs to know its largest size; "
            "write compress.scheduled(schedule, largest=0.25) or compress.warm_up(...)"
        )
    return numerics.check_density(density, name)


def scheduled(schedule: Schedule, largest: float) -> ScheduledDensity:
    """A density that follows any optax schedule.

    Args:
      schedule: step -> density; what exceeds `largest` is cut to it.
      largest: the most it returns, 0 < largest <= 1.

    Returns:
      What every compressor takes as its `density`.

    Example:
      >>> import optax
      >>> density = scheduled(optax.exponential_decay(0.25, 100, 0.5, end_value=0.001), largest=0.25)
      >>> round(float(density.schedule(100)), 3)
      0.125
    """
    return ScheduledDensity(schedule, numerics.check_density(largest, "largest"))


def warm_up(
    initial: float | Sequence[float],
    final: float,
    epochs: int | None = None,
    *,
    steps_per_epoch: int,
) -> ScheduledDensity:
    """Density that falls exponentially over the first epochs, as DGC's warm-up does.

        density_e = initial * (final / initial)^(e / epochs)  for e < epochs,  then final

    Args:
      initial: density of the first epoch; or a list with the density of each warm-up epoch, such as
        [0.25, 0.0625, 0.015625, 0.004].
      final: density afterwards.
      epochs: length of the warm-up; not needed with a list.
      steps_per_epoch: steps of one epoch.

    Returns:
      What every compressor takes as its `density`.

    Raises:
      ValueError: a density outside (0, 1], epochs or steps below 1, or a list together with epochs.

    Differs from the reference code:
      1. That takes final^((e+1)/(epochs+1)), which is the same for initial = final^(1/(epochs+1)).

    Reference: Lin et al., Deep Gradient Compression (arXiv 1712.01887).

    Example:
      >>> density = warm_up(0.25, 0.001, epochs=4, steps_per_epoch=10)
      >>> [round(float(density.schedule(step)), 4) for step in (0, 10, 20, 30, 40, 999)]
      [0.25, 0.0629, 0.0158, 0.004, 0.001, 0.001]
    """
    final = numerics.check_density(final, "final")
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch={steps_per_epoch}: must be at least 1")
    if isinstance(initial, Sequence):
        if epochs not in (None, len(initial)):
            raise ValueError(f"epochs={epochs}: leave it out, the list has {len(initial)} epochs")
        listed = [numerics.check_density(value, "initial") for value in initial]
    else:
        if epochs is None or epochs < 1:
            raise ValueError(f"epochs={epochs}: must be at least 1")
        start = numerics.check_density(initial, "initial")
        listed = [start * (final / start) ** (epoch / epochs) for epoch in range(epochs)]
    table = jnp.asarray([*listed, final], jnp.float32)

    def schedule(step: jax.Array) -> jax.Array:
        return table[jnp.minimum(jnp.asarray(step) // steps_per_epoch, table.shape[0] - 1)]

    return ScheduledDensity(schedule, max(*listed, final))


def capacity(density: Density, entries: int) -> int:
    """Slots that a payload of `entries` entries needs: k of the largest density."""
    largest = density.largest if isinstance(density, ScheduledDensity) else density
    return selection.count(entries, largest)


def count_at(density: Density, entries: int, step: jax.Array) -> int | jax.Array:
    """k at a step: a Python number for a fixed density, an int32 scalar for a scheduled one."""
    most = capacity(density, entries)
    if not isinstance(density, ScheduledDensity):
        return most
    wished = jnp.round(jnp.asarray(density.schedule(step), jnp.float32) * entries)
    return jnp.clip(wished.astype(jnp.int32), 1, most)
