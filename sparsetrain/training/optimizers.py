"""Optimizers of a config: learning rates over time, weight decay, a bound on the gradient."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import backward
from sparsetrain.training.named import lookup, made

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "sgd": optax.sgd,
}
ROW_SPARSE_OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": backward.row_sparse.adam,
    "sgd": backward.row_sparse.sgd,
}


def cosine(learning_rate: float, decay_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Rises linearly, then falls to zero as half a cosine.

        eta t / t_w up to t_w,    then eta / 2 (1 + cos(pi (t - t_w) / (t_end - t_w)))

    Args:
      learning_rate: eta, the highest.
      decay_steps: t_end, steps from the first to the end, warm-up among them.
      warmup_steps: t_w.

    Returns:
      Step -> learning rate.

    Example:
      >>> rate = cosine(1.0, decay_steps=30, warmup_steps=10)
      >>> [round(float(rate(t)), 3) for t in (0, 5, 10, 20, 30)]
      [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if warmup_steps:
        return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, decay_steps)
    return optax.cosine_decay_schedule(learning_rate, decay_steps)


def stepwise(
    learning_rate: float, boundaries: tuple[int, ...], factor: float = 0.1, warmup_steps: int = 0
) -> optax.Schedule:
    """Is multiplied by a factor at each boundary.

    Args:
      learning_rate: at first, behind a linear warm-up.
      boundaries: steps.
      factor: at each of them.
      warmup_steps: of the warm-up.

    Returns:
      Step -> learning rate.

    Example:
      >>> rate = stepwise(1.0, boundaries=(10, 20), factor=0.1)
      >>> [round(float(rate(t)), 3) for t in (0, 9, 10, 25)]
      [1.0, 1.0, 0.1, 0.01]
    """
    falls = optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(boundaries, factor))
    return _warmed(falls, warmup_steps)


def exponential(
    learning_rate: float, decay_every: int, factor: float, decay_begin: int = 0
) -> optax.Schedule:
    """Is multiplied by a factor again and again, once an epoch for instance.

        eta factor^max(0, floor((t - t_0) / every) + 1)

    Args:
      learning_rate: eta, up to the beginning.
      decay_every: steps between two decays.
      factor: of each.
      decay_begin: t_0, step of the first; 0 for `decay_every`.

    Returns:
      Step -> learning rate.

    Example:
      >>> rate = exponential(1.0, decay_every=10, factor=0.5, decay_begin=20)
      >>> [float(rate(t)) for t in (0, 19, 20, 30)]
      [1.0, 1.0, 0.5, 0.25]
    """
    begin = decay_begin or decay_every

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        times = jnp.maximum(0, (jnp.asarray(step) - begin) // decay_every + 1)
        return learning_rate * jnp.float32(factor) ** times

    return rate


def inverse_square_root(learning_rate: float, warmup_steps: int) -> optax.Schedule:
    """Rises linearly, then falls with the square root of the step.

        eta min(t / t_w, sqrt(t_w / t))

    Args:
      learning_rate: eta, the highest.
      warmup_steps: t_w.

    Returns:
      Step -> learning rate.

    Example:
      >>> rate = inverse_square_root(1.0, warmup_steps=100)
      >>> [round(float(rate(t)), 3) for t in (50, 100, 400)]
      [0.5, 1.0, 0.5]
    """

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.maximum(jnp.asarray(step, jnp.float32), 1.0)
        return learning_rate * jnp.minimum(t / warmup_steps, jnp.sqrt(warmup_steps / t))

    return rate


def _warmed(rate: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    if not warmup_steps:
        return rate
    return lambda step: rate(step) * jnp.minimum(1.0, (jnp.asarray(step) + 1) / warmup_steps)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "cosine": cosine,
    "exponential": exponential,
    "inverse_square_root": inverse_square_root,
    "stepwise": stepwise,
}


def make(config: Mapping[str, Any], row_sparse: bool = False) -> optax.GradientTransformation:
    """The optimizer of an `optimizer` section.

        g <- clip(g);    g <- g + weight_decay w;    then the optimizer at eta(t)

    Args:
      config: `name`; keyword arguments of that optimizer, None for their defaults; and, if they are wanted,
        `schedule` with its own settings (see `SCHEDULES`; times are in optimizer steps), `weight_decay`,
        `clip`, the largest global norm of the gradient.
      row_sparse: whether kernels have row-sparse gradients, which take no schedule, decay or bound here.

    Returns:
      The transformation.

    Raises:
      ValueError: an unknown name, or a setting that is missing or not known.

    Example:
      >>> tx = make({"name": "sgd", "learning_rate": 0.5, "momentum": 0.9, "weight_decay": 1e-4, "clip": 5.0})
      >>> len(tx.init({"w": jnp.zeros(2)}))
      3
    """
    table = ROW_SPARSE_OPTIMIZERS if row_sparse else OPTIMIZERS
    factory = lookup(table, config["name"], "optimizer.name")
    settings = {k: v for k, v in config.items() if k != "name" and v is not None}
    if row_sparse:
        return factory(**settings)
    clip, decay = (settings.pop(name, None) for name in ("clip", "weight_decay"))
    if "schedule" in settings:
        rate = made(SCHEDULES, "schedule", settings, "optimizer")
        own = inspect.signature(SCHEDULES[settings.pop("schedule")]).parameters
        settings = {k: v for k, v in settings.items() if k not in own} | {"learning_rate": rate}
    unknown = settings.keys() - inspect.signature(factory).parameters.keys()
    if unknown:
        raise ValueError(
            f"optimizer.{min(unknown)}: neither {config['name']} nor its schedule takes it; leave it out"
        )
    parts = [factory(**settings)]
    if decay:
        parts.insert(0, optax.add_decayed_weights(decay))
    if clip is not None:
        parts.insert(0, optax.clip_by_global_norm(clip))
    # Not a chain of one, so that a state without the new settings is what it was.
    return parts[0] if len(parts) == 1 else optax.chain(*parts)
