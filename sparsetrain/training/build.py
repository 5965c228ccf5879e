"""The only place that turns the names in a config into objects."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import optax
from flax import linen as nn

from sparsetrain import backward, compress, masks, models, runtime
from sparsetrain.training import optimizers, step
from sparsetrain.training.optimizers import lookup
from sparsetrain.training.tasks import TASKS, Loaded, Task
from sparsetrain.training.workers import Workers

MODELS: dict[str, Callable[..., Any]] = {
    "char_lstm": models.CharLSTM,
    "lenet5": models.LeNet5,
    "mlp": models.MLP,
    "pointnet2": models.PointNet2,
    "resnet": models.ResNet,
    "resnet50": models.ResNet50,
    "seq2seq": models.Seq2Seq,
    "ssd300": models.SSD300,
    "tagger": models.Tagger,
    "text_cnn": models.TextCNN,
    "transformer": models.Transformer,
    "transition_parser": models.TransitionParser,
    "vgg16": models.VGG16,
    "word_lstm": models.WordLSTM,
}
# What `model.cell` may say; only the first has products that rules of `backward` can match.
CELLS = {"lstm": nn.LSTMCell, "optimized_lstm": nn.OptimizedLSTMCell}
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
    tx = optimizers.make(config, row_sparse)
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
        steps), `memory` (of `MEMORIES`), `momentum_masking` (of local steps, or None), and the
        settings of both.
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
    if config.every > 1 or config.momentum_masking is not None:
        return compress.local_steps(
            inner,
            config.every,
            compressor,
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


@dataclasses.dataclass(frozen=True)
class Alternating:
    """A model whose rules take turns: at step t those of `turns[t % n]` act, and other layers are dense.

    Memories of the others stay as they are. MSBP trains translators so, the encoder at even steps and the decoder
    at odd ones. Attributes that are not here are those of `whole`.

    Attributes:
      whole: with the rules of all turns; initializes, and tells what is measured.
      turns: the same model with the rules of one turn each.
    """

    whole: backward.linen.Sparsified
    turns: tuple[backward.linen.Sparsified, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


def model(
    config: ml_collections.FrozenConfigDict,
    rules: Mapping[str, Any],
    task: Task,
    row_sparse: bool,
    turns: Sequence[str] | None = None,
) -> Any:
    """The network with its rules, or the plain one where there are none.

    Args:
      config: `name`, and fields of that model; of `cell` a name in `CELLS`.
      rules: as from `rules`.
      task: which gives the fields that data decide, and may wrap the model.
      row_sparse: whether kernels get row-sparse gradients.
      turns: expressions of the rules' own; see `Alternating`. None if all act at every step.

    Raises:
      ValueError: an unknown name, a model of another task, or turns that leave a rule out.
    """
    fields = {key: value for key, value in config.items() if key != "name"}
    factory = lookup(MODELS, config.name, "model.name")
    if config.name not in task.models:
        raise ValueError(
            f"model.name={config.name!r} is no model of the task {task.name}; "
            f"choose one of {', '.join(sorted(task.models))}"
        )
    if "cell" in fields:
        fields["cell"] = lookup(CELLS, fields["cell"], "model.cell")
    known = inspect.signature(factory).parameters
    fields = {key: value for key, value in task.sizes.items() if key in known} | fields
    plain = task.module(factory(**fields))
    if not rules:
        return plain
    sparsify = functools.partial(
        backward.linen.sparsify, plain, rows=task.rows, row_sparse=row_sparse
    )
    if not turns:
        return sparsify(rules)
    if set(turns) != set(rules):
        raise ValueError(
            f"backward.turns={tuple(turns)}: must name each of the rules {tuple(rules)} once"
        )
    return Alternating(sparsify(rules), tuple(sparsify({turn: rules[turn]}) for turn in turns))


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
      >>> load(digits.get_config(), workers=1).task
      Images(classes=10, label_smoothing=0.0)
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
    return sparse, transformation, step.make(sparse, transformation, workers, task)
