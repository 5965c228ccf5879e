"""The only place that turns the names in a config into objects."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import optax

from sparsetrain import backward, compress, runtime
from sparsetrain.training import optimizers, step
from sparsetrain.training.named import lookup, made, taken
from sparsetrain.training.networks import MODELS, model
from sparsetrain.training.sparsity import check_rhythm, chosen, combined, is_p_gap, masked, seen
from sparsetrain.training.tasks import TASKS, Loaded, Task
from sparsetrain.training.workers import Workers

__all__ = [
    "MEMORIES",
    "MODELS",
    "ConfigError",
    "chosen",
    "config_errors",
    "functions",
    "load",
    "model",
    "optimizer",
    "rule",
    "rules",
    "seen",
    "workers",
]

_PLAIN: Any = compress.COMPRESSORS
COMPRESSORS: dict[str, Callable[..., Any]] = {
    **_PLAIN,
    # A setting of None keeps a factory's default, which for steps of DLS is 1.
    "layerwise_optimal": functools.partial(_PLAIN["layerwise"], steps=None),
}
# Of what workers agree upon, behind local steps; `outer_*` settings without their prefix.
OUTERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "nesterov": functools.partial(optax.sgd, nesterov=True),
    "sgd": optax.sgd,
}
MEMORIES: dict[str, Callable[..., Any]] = {
    "momentum_correction": compress.momentum_correction,
    "no_memory": compress.no_memory,
    "residual": compress.residual,
}


class ConfigError(ValueError):
    """A run cannot start as it was asked for; the message is one sentence that names the cure."""


@contextlib.contextmanager
def config_errors() -> Iterator[None]:
    """Turns what goes wrong while a run is being built into a `ConfigError`."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ConfigError(" ".join(str(text).split())) from error


def rule(name: str, settings: Mapping[str, Any]) -> Any:
    """A backward rule from its registry name.

    Args:
      name: key of `backward.RULES`, such as "memorized_top_k".
      settings: may hold more than this rule takes, so that one config serves every rule: a `decay`
        does nothing to "top_k". A setting that is None keeps the rule's own default.

    Returns:
      The rule.

    Raises:
      ValueError: an unknown name, or a setting out of range.

    Example:
      >>> rule("top_k", {"density": 0.5, "decay": 0.8})
      TopK(density=0.5, groups=1, shares_columns=False)
    """
    factory = lookup(backward.RULES, name, "backward.rule")
    return factory(**taken(factory, settings))


def rules(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> dict[str, Any]:
    """Path regex -> rule from the `backward` section.

    Args:
      config: `rule` (registry name; "dense" for plain backpropagation), `layers` (regex that must
        match a kernel's path in full), `overrides` (tuple of (regex, rule name, tuple of (setting,
        value)) that are tried first), and the settings of the rule.

    Returns:
      Rules in the order in which they are tried; empty where all is dense.
    """
    settings = {
        key: value
        for key, value in config.items()
        if key not in ("rule", "layers", "overrides", "row_sparse", "adaptive_decay", "turns")
    }
    if config.adaptive_decay:
        settings["decay"] = "adaptive"
    table = {
        pattern: rule(name, settings | dict(changed)) for pattern, name, changed in config.overrides
    }
    if config.rule != "dense":
        table.setdefault(config.layers, rule(config.rule, settings))
    return table


def optimizer(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    row_sparse: bool,
    exchange: ml_collections.ConfigDict | ml_collections.FrozenConfigDict | None = None,
    sparsity: ml_collections.ConfigDict | ml_collections.FrozenConfigDict | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformation:
    """The optimizer of the parameters, behind a compressed exchange and under masks if they are asked
    for, wrapped so that it carries the memory.

    Args:
      config: as for `optimizers.make`.
      row_sparse: whether kernels have row-sparse gradients.
      exchange: the `compress` section, see `compressed`; None for no exchange.
      sparsity: the `masks` section, see `masked`; None for dense weights.
      axis_name: of the workers, None for one.

    Returns:
      A transformation of whole variables.

    Raises:
      ValueError: an unknown name, an exchange or masks of row-sparse gradients, or several workers
        who exchange nothing.
    """
    is_parallel = sparsity is not None and is_p_gap(sparsity)
    name = "none" if exchange is None else exchange.name
    exchanges = exchange is not None and name != "none"
    if exchanges and row_sparse:
        raise ValueError(
            f"compress.name={name!r}: row-sparse gradients are not compressed further; "
            "set backward.row_sparse=False or compress.name=none"
        )
    if exchanges and is_parallel:
        raise ValueError(
            f"compress.name={name!r}: workers of masks.order='parallel' train apart; set compress.name=none"
        )

    def inside(changed: Mapping[str, Any]) -> optax.GradientTransformation:
        tx = optimizers.make({**config, **changed}, row_sparse)
        return tx if exchange is None or not exchanges else compressed(exchange, tx, axis_name)

    tx = inside({})
    if not exchanges and axis_name is not None and not is_parallel:
        raise ValueError(
            "workers: several of them need an exchange; set compress.name=dense, or top_k, ..."
        )
    if sparsity is not None and sparsity.name != "none":
        if row_sparse:
            raise ValueError(
                f"masks.name={sparsity.name!r}: row-sparse gradients have no masks; "
                "set backward.row_sparse=False or masks.name=none"
            )
        if exchanges and axis_name is not None and exchange is not None:
            check_rhythm(sparsity, exchange.every)
        changed = sparsity.get("fine_tune")
        tx = masked(sparsity, tx, axis_name, None if changed is None else inside(dict(changed)))
    return backward.carry_memory(tx)


def compressed(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    inner: optax.GradientTransformation,
    axis_name: str | None = None,
) -> optax.GradientTransformation:
    """An optimizer whose gradients, or whose progress over several steps, are compressed.

    Args:
      config: `name` (of `COMPRESSORS`), `overrides` (tuple of (regex, name, tuple of (setting, value)) for
        leaves with another compressor, tried first; paths begin with "params/"), `every` (1 compresses
        gradients, more local steps), `memory` (of `MEMORIES`), `momentum_masking` (of local steps, or
        None), `outer` (of `OUTERS`, or None) with `outer_learning_rate` and `outer_momentum`, and the
        settings of compressor and memory.
      inner: the optimizer.
      axis_name: of the workers, None for one.

    Returns:
      `compress.exchange` before the optimizer, or `compress.local_steps` around it.

    Raises:
      ValueError: an unknown name, or a setting out of range or missing.
    """
    settings = {**config, "key": jax.random.key(config.key)}
    compressor = made(COMPRESSORS, "name", settings)
    if overrides := settings.pop("overrides", ()):
        parts = {
            pattern: made(COMPRESSORS, "name", settings | dict(changed) | {"name": name})
            for pattern, name, changed in overrides
        }
        compressor = compress.by_path({**parts, r".*": compressor})
    memory = made(MEMORIES, "memory", settings)
    outer = None
    if config.get("outer") is not None:
        of_outer = {k.removeprefix("outer_"): v for k, v in config.items() if k.startswith("outer")}
        outer = made(OUTERS, "outer", of_outer, "compress")
    if config.every > 1 or config.momentum_masking is not None or outer is not None:
        return compress.local_steps(
            inner,
            config.every,
            compressor,
            outer,
            memory=memory,
            momentum_masking=config.momentum_masking,
            axis_name=axis_name,
        )
    return optax.chain(compress.exchange(compressor, memory, axis_name=axis_name), inner)


def workers(count: int) -> Workers:
    """Who trains: the devices of all processes, or so many simulated ones in a single process.

    Args:
      count: of the config; with several processes the number of their devices, or 1 for "as many".

    Returns:
      The workers.

    Raises:
      ValueError: a number below 1, or another than that of the devices of several processes.

    Example:
      >>> workers(4).count, workers(4).mesh
      (4, None)
    """
    if count < 1:
        raise ValueError(f"workers={count}: must be at least 1")
    if jax.process_count() == 1:
        return Workers(count)
    devices = jax.device_count()
    if count not in (1, devices):
        raise ValueError(
            f"workers={count}: {jax.process_count()} processes have {devices} devices, a worker each; "
            f"set workers={devices}, or start as many processes"
        )
    return Workers(devices, runtime.worker_mesh())


def load(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict, workers: int
) -> Loaded:
    """The task of a config with its data.

    Args:
      config: `data` with `name`, `path` ("" searches the usual places), `batch_size` and, of synthetic examples,
        `sizes`; `task` with `name` and settings of that task, or nothing for images.
      workers: how many read the examples.

    Returns:
      `tasks.Loaded`.

    Raises:
      ValueError: an unknown task or setting, and whatever its reader raises.

    Example:
      >>> from configs import digits
      >>> load(digits.get_config(), workers=1).task.classes
      10
    """
    settings = {"name": "images", **(config.get("task") or {})}
    name = settings.pop("name")
    reader, given = lookup(TASKS, name, "task.name"), config.data
    if unknown := settings.keys() - inspect.signature(reader).parameters.keys():
        raise ValueError(f"task.{min(unknown)}: {name} has no such setting; leave it out")
    settings = {key: value for key, value in settings.items() if value is not None}
    return reader(
        given.name,
        given.path or None,
        batch_size=given.batch_size,
        workers=workers,
        sizes=dict(given.get("sizes") or {}),
        **settings,
    )


@functools.lru_cache(maxsize=32)
def functions(
    model_config: ml_collections.FrozenConfigDict,
    backward_config: ml_collections.FrozenConfigDict,
    optimizer_config: ml_collections.FrozenConfigDict,
    compress_config: ml_collections.FrozenConfigDict,
    task: Task,
    masks_config: ml_collections.FrozenConfigDict | None = None,
    workers: Workers | None = None,
) -> tuple[Any, optax.GradientTransformation, step.Functions]:
    """Model, optimizer and compiled functions; runs that differ only in their seed share them."""
    table = rules(backward_config)
    row_sparse = bool(backward_config.row_sparse) and bool(table)
    sparse = model(model_config, table, task, row_sparse, backward_config.get("turns"))
    workers = workers or Workers()
    transformation = optimizer(
        optimizer_config, row_sparse, compress_config, masks_config, workers.axis_name
    )
    together = combined(masks_config, workers.axis_name)
    made = step.make(sparse, transformation, workers, task, together, seen(masks_config))
    return sparse, transformation, made
