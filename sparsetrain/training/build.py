"""The only place that turns the names in a config into objects."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import optax

from sparsetrain import backward, compress, data, masks, runtime
from sparsetrain.models import MLP, LeNet5
from sparsetrain.training import step
from sparsetrain.training.workers import Workers

MODELS: dict[str, Callable[..., Any]] = {"lenet5": LeNet5, "mlp": MLP}
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "sgd": optax.sgd,
}
ROW_SPARSE_OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": backward.row_sparse.adam,
    "sgd": backward.row_sparse.sgd,
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


def lookup(table: Mapping[str, Any], name: str, field: str) -> Any:
    """Entry of a table, or a ValueError that lists what there is.

    Example:
      >>> lookup({"adam": 1}, "adam", "optimizer.name")
      1
    """
    if name not in table:
        raise ValueError(f"{field}={name!r} is unknown; choose one of {', '.join(sorted(table))}")
    return table[name]


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
    return factory(**_taken(factory, settings))


def _taken(factory: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a factory knows and that are not None."""
    known = inspect.signature(factory).parameters
    return {key: value for key, value in settings.items() if key in known and value is not None}


def _made(
    table: Mapping[str, Any],
    field: str,
    settings: Mapping[str, Any],
    section: str = "compress",
    *given: Any,
) -> Any:
    """What the factory named by a field of a section makes of the settings it knows.

    Raises:
      ValueError: an unknown name, or a setting out of range or missing.
    """
    name = settings[field]
    factory = lookup(table, name, f"{section}.{field}")
    taken = _taken(factory, settings)
    missing = [
        f"{section}.{key}"
        for key, parameter in list(inspect.signature(factory).parameters.items())[len(given) :]
        if parameter.default is inspect.Parameter.empty and key not in taken
    ]
    if missing:
        raise ValueError(
            f"{section}.{field}={name!r} needs {' and '.join(missing)}: "
            f"add {' '.join(f'--config.{key}=<value>' for key in missing)}"
        )
    return factory(*given, **taken)


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
        if key not in ("rule", "layers", "overrides", "row_sparse", "adaptive_decay")
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
      config: `name`, and keyword arguments of that optimizer; None keeps its default.
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
    table = ROW_SPARSE_OPTIMIZERS if row_sparse else OPTIMIZERS
    factory = lookup(table, config.name, "optimizer.name")
    settings = {k: v for k, v in config.items() if k != "name" and v is not None}
    tx = factory(**settings)
    if exchange is not None and exchange.name != "none":
        if row_sparse:
            raise ValueError(
                f"compress.name={exchange.name!r}: row-sparse gradients are not compressed further; "
                "set backward.row_sparse=False or compress.name=none"
            )
        tx = compressed(exchange, tx, axis_name)
    elif axis_name is not None:
        raise ValueError(
            "workers: several of them need an exchange; set compress.name=dense, or top_k, ..."
        )
    if sparsity is not None and sparsity.name != "none":
        if row_sparse:
            raise ValueError(
                f"masks.name={sparsity.name!r}: row-sparse gradients have no masks; "
                "set backward.row_sparse=False or masks.name=none"
            )
        if axis_name is not None and exchange is not None:
            _check_rhythm(sparsity, exchange.every)
        tx = masked(sparsity, tx, axis_name)
    return backward.carry_memory(tx)


def compressed(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    inner: optax.GradientTransformation,
    axis_name: str | None = None,
) -> optax.GradientTransformation:
    """An optimizer whose gradients, or whose progress over several steps, are compressed.

    Args:
      config: `name` (of `compress.COMPRESSORS`), `every` (1 compresses gradients, more local
        steps), `memory` (of `MEMORIES`), `momentum_masking` (of local steps, or None), `outer` (of `OUTERS`, or
        None) with `outer_learning_rate` and `outer_momentum`, and the settings of compressor and memory.
      inner: the optimizer.
      axis_name: of the workers, None for one.

    Returns:
      `compress.exchange` before the optimizer, or `compress.local_steps` around it.

    Raises:
      ValueError: an unknown name, or a setting out of range or missing.
    """
    settings = {**config, "key": jax.random.key(config.key)}
    compressor = _made(compress.COMPRESSORS, "name", settings)
    memory = _made(MEMORIES, "memory", settings)
    outer = None
    if config.get("outer") is not None:
        of_outer = {k.removeprefix("outer_"): v for k, v in config.items() if k.startswith("outer")}
        outer = _made(OUTERS, "outer", of_outer, "compress")
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


def masked(
    config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    inner: optax.GradientTransformation,
    axis_name: str | None = None,
) -> optax.GradientTransformation:
    """An optimizer that owns masks.

    Args:
      config: `name` (of `masks.METHODS`), `partitions` (tuple of (name, regex), of grow_and_prune),
        `dense` (regex, or None), `structure` ("unstructured", or (rows, columns) of blocks), `key`,
        and the settings of the method. Paths begin with "params/".
      inner: the optimizer.
      axis_name: of the workers, None for one.

    Returns:
      The wrapper around it.

    Raises:
      ValueError: an unknown name, or a setting out of range or missing.
    """
    settings = {**config, "key": jax.random.key(config.key), "axis_name": axis_name}
    settings["partitions"] = masks.partitions(dict(config.partitions), dense=config.dense)
    if config.structure != "unstructured":
        settings["structure"] = masks.block(*config.structure)
    return _made(masks.METHODS, "name", settings, "masks", inner)


def _check_rhythm(sparsity: Mapping[str, Any], every: int) -> None:
    """Masks may change where workers have the same weights, else each would choose its own."""
    known = _taken(lookup(masks.METHODS, sparsity["name"], "masks.name"), sparsity)
    for field in ("steps_per_phase", "begin", "every", "at"):
        if known.get(field, 0) % every:
            raise ValueError(
                f"masks.{field}={known[field]}: workers choose masks from weights that all of them have; "
                f"make it a multiple of compress.every={every}"
            )


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


def model(
    config: ml_collections.FrozenConfigDict,
    rules: Mapping[str, Any],
    classes: int,
    row_sparse: bool,
) -> Any:
    """The network with its rules, or the plain one where there are none.

    Args:
      config: `name`, and fields of that model.
      rules: as from `rules`.
      classes: number of logits.
      row_sparse: whether kernels get row-sparse gradients.
    """
    fields = {key: value for key, value in config.items() if key != "name"}
    plain = lookup(MODELS, config.name, "model.name")(classes=classes, **fields)
    if not rules:
        return plain
    return backward.linen.sparsify(plain, rules, row_sparse=row_sparse)


def dataset(config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict) -> Any:
    """The data set of the `data` section: `name`, `path` ("" searches the usual places)."""
    return data.load(config.name, path=config.path or None)


@functools.lru_cache(maxsize=32)
def functions(
    model_config: ml_collections.FrozenConfigDict,
    backward_config: ml_collections.FrozenConfigDict,
    optimizer_config: ml_collections.FrozenConfigDict,
    compress_config: ml_collections.FrozenConfigDict,
    classes: int,
    masks_config: ml_collections.FrozenConfigDict | None = None,
    workers: Workers | None = None,
) -> tuple[Any, optax.GradientTransformation, step.Functions]:
    """Model, optimizer and compiled functions; runs that differ only in their seed share them."""
    table = rules(backward_config)
    row_sparse = bool(backward_config.row_sparse) and bool(table)
    sparse = model(model_config, table, classes, row_sparse)
    workers = workers or Workers()
    transformation = optimizer(
        optimizer_config, row_sparse, compress_config, masks_config, workers.axis_name
    )
    return sparse, transformation, step.make(sparse, transformation, workers)
