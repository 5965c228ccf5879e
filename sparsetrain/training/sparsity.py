"""Masks of a config: the optimizer that owns them, masks by scores, and workers that put their partitions together."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from sparsetrain import masks
from sparsetrain.training.named import lookup, made, taken
from sparsetrain.training.step import SPARSE_COLLECTIONS, without

SCORES: dict[str, Callable[..., Any]] = {
    "grasp": masks.grasp_scores,
    "snip": masks.snip_scores,
}


# Methods whose weights stay dense while the model computes with what masks leave of them.
SHADOWS: dict[str, Callable[..., Any]] = {"dpf": masks.dpf}
_OWNERS: dict[str, Callable[..., Any]] = {**masks.METHODS, **SHADOWS}


def is_p_gap(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> bool:
    """Whether a `masks` section is of workers that train apart and put their partitions together."""
    return config.name == "grow_and_prune" and config.get("order") == "parallel"


def masked(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    inner: optax.GradientTransformation,
    axis_name: str | None = None,
    fine_tune: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """An optimizer that owns masks.

    Args:
      config: `name` (of `masks.METHODS`, of `SHADOWS`, or of `SCORES`, whose masks `chosen` finds), `partitions`
        (tuple of (name, regex), of grow_and_prune),
        `dense` (regex, or None), `overrides` (tuple of (regex, density) in the place of `distribution`, tried
        first; other leaves have `density`), `structure` ("unstructured", or (rows, columns) of blocks), `key`,
        and the settings of the method. Paths begin with "params/".
      inner: the optimizer.
      axis_name: of the workers, None for one.
      fine_tune: the optimizer that takes over when masks have found their end, of methods with one; None for
        `inner`.

    Returns:
      The wrapper around it.

    Raises:
      ValueError: an unknown name, or a setting out of range or missing.
    """
    settings = {**config, "key": jax.random.key(config.key), "axis_name": axis_name}
    settings["fine_tune"] = fine_tune
    if overrides := config.get("overrides"):
        if config.name in SCORES or config.distribution != "uniform":
            raise ValueError(
                f"masks.overrides={overrides}: masks.name={config.name!r} with masks.distribution="
                f"{config.distribution!r} finds densities by itself; leave them out, or take another"
            )
        settings["distribution"] = dict(overrides)
    if config.name in SCORES:
        # Random ones, in whose place those are put that the scores choose.
        return masks.static(inner, config.density, key=settings["key"], dense=config.dense)
    settings["partitions"] = masks.partitions(dict(config.partitions), dense=config.dense)
    if config.structure != "unstructured":
        settings["structure"] = masks.block(*config.structure)
    return made(_OWNERS, "name", settings, "masks", inner)


def check_rhythm(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict, every: int
) -> None:
    """Masks may change where workers have the same weights, else each would choose its own.

    Args:
      config: the `masks` section.
      every: local steps between two exchanges.

    Raises:
      ValueError: masks that change between exchanges.
    """
    if config.name in SCORES:
        return
    known = taken(lookup(_OWNERS, config.name, "masks.name"), config)
    times: dict[str, int] = {
        field: known[field]
        for field in ("steps_per_phase", "begin", "end", "every", "at")
        # Where ADMM begins to pull, masks stay.
        if field in known and (field, config.name) != ("begin", "admm")
    }
    # (updates, density) of earlier prunings; ADMM's have their beginning before that.
    times |= {f"before[{number}]": each[-2] for number, each in enumerate(known.get("before", ()))}
    for field, time in times.items():
        if time % every:
            raise ValueError(
                f"masks.{field}={time}: workers choose masks from weights that all of them have; "
                f"make it a multiple of compress.every={every}"
            )


def chosen(
    config: ml_collections.FrozenConfigDict | None, loss: Callable[..., jax.Array], batch: Any
) -> Callable[[Any], dict[str, jax.Array]] | None:
    """Masks by scores at initialisation.

    Args:
      config: the `masks` section.
      loss: (variables, batch) -> mean loss.
      batch: that the scores are taken on; one of training.

    Returns:
      First variables -> masks, or None for methods that find their own. Where `distribution` is "global" all weights
      are ranked together, else those of each layer.
    """
    if config is None or config.name not in SCORES:
        return None

    def masks_of(variables: Any) -> dict[str, jax.Array]:
        held = without(variables, *SPARSE_COLLECTIONS)
        params = {"params": held["params"]}
        scores = SCORES[config.name](lambda own, batch: loss({**held, **own}, batch), params, batch)
        settings = {"scores": scores, "dense": config.dense, "distribution": config.distribution}
        return masks.static(optax.identity(), config.density, **settings).init(params).masks

    return masks_of


def seen(
    config: ml_collections.FrozenConfigDict | None,
) -> Callable[[Any, Any], Any] | None:
    """What a model computes with, where that is not what the optimizer moves.

    Args:
      config: the `masks` section.

    Returns:
      (variables, optimizer state) -> variables, of methods of `SHADOWS`; None for others.

    Example:
      >>> seen(ml_collections.FrozenConfigDict({"name": "rigl"})) is None
      True
    """
    return masks.forward_params if config is not None and config.name in SHADOWS else None


def combined(
    config: ml_collections.FrozenConfigDict | None, axis_name: str | None
) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]] | None:
    """What workers of P-GaP do behind every step: where a round ends, they put their partitions together.

    Args:
      config: the `masks` section.
      axis_name: of the workers.

    Returns:
      (variables, optimizer state, steps done) -> (variables, optimizer state), or None for other methods.
    """
    if config is None or not is_p_gap(config) or axis_name is None:
        return None
    partitions = masks.partitions(dict(config.partitions), dense=config.dense)
    every, last = config.steps_per_phase, config.steps_per_phase * config.phases

    def together(variables: Any, opt_state: Any, done: jax.Array) -> tuple[Any, Any]:
        due = (done % every == 0) & (done <= last)
        return jax.lax.cond(
            # The same on all workers, and on a mesh known to be.
            jax.lax.pmax(due.astype(jnp.int32), axis_name) > 0,
            lambda held: masks.combine(held[0], held[1], partitions, axis_name),
            lambda held: held,
            (variables, opt_state),
        )

    return together
