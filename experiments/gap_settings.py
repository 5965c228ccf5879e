"""What a run of grow-and-prune at the paper's size would be; nothing is allocated, nothing trained.

    python -m experiments.gap_settings --config=configs/gap_resnet50_imagenet.py

Prints the partitions, the phases, and the sizes of parameters, optimizer state and forward pass.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from absl import app
from ml_collections import config_flags

from experiments.gap_translation.methods import inverse_square_root
from sparsetrain import masks
from sparsetrain.models import ResNet50, Transformer

AXIS = "workers"


class Job(NamedTuple):
    """A config in objects.

    Attributes:
      model: linen module.
      inputs: what it is called with, as shapes, a batch of one.
      partitions: of its weights.
      optimizer: which owns the masks.
    """

    model: Any
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    partitions: masks.Partitions
    optimizer: optax.GradientTransformationExtraArgs


def build(config: ml_collections.ConfigDict) -> Job:
    """Objects from a config's names.

    Args:
      config: with sections data, model, optimizer and masks.

    Returns:
      A `Job`.

    Raises:
      KeyError: an unknown model, optimizer or schedule.
    """
    fields = {name: value for name, value in config.model.items() if name != "name"}
    tokens = jax.ShapeDtypeStruct((1, 64), jnp.int32)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    make, inputs = {
        "resnet50": (ResNet50, (image,)),
        "transformer": (Transformer, (tokens, tokens)),
    }[config.model.name]
    parts = masks.partitions(dict(config.masks.partitions), dense=config.masks.dense)
    per_phase = config.masks.epochs_per_phase * config.data.steps_per_epoch
    is_parallel = config.masks.order == "parallel"
    tx = masks.grow_and_prune(
        optimizer(config.optimizer, per_phase),
        config.masks.density,
        parts,
        steps_per_phase=per_phase,
        phases=config.masks.phases,
        key=jax.random.key(config.seed),
        fine_tune=optimizer(
            config.optimizer, config.masks.fine_tune_epochs * config.data.steps_per_epoch
        ),
        distribution=config.masks.distribution,
        order=config.masks.order,
        axis_name=AXIS if is_parallel else None,
    )
    return Job(make(**fields), inputs, parts, tx)


def optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """The optimizer of a phase, or of the fine-tuning: its schedule begins and ends with it.

    Args:
      config: the optimizer section.
      steps: updates of the phase.
    """
    rate = {
        "cosine": lambda: optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, config.warmup_steps, steps
        ),
        "inverse_square_root": lambda: inverse_square_root(
            config.learning_rate, config.warmup_steps
        ),
    }[config.schedule]()
    return {
        "sgd": lambda: optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(rate, momentum=config.momentum),
        ),
        "adam": lambda: optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps),
    }[config.name]()


def epochs(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """(epochs by the clock, epochs of all workers together) of a whole run.

    With order="parallel" a phase is a round, in which every partition has a worker of its own.
    """
    apart = config.masks.phases * config.masks.epochs_per_phase
    workers = len(config.masks.partitions) if config.masks.order == "parallel" else 1
    return apart + config.masks.fine_tune_epochs, workers * apart + config.masks.fine_tune_epochs


def report(config: ml_collections.ConfigDict) -> str:
    """The text of the command.

    Args:
      config: with sections data, model, optimizer and masks.

    Returns:
      Several lines.
    """
    job = build(config)
    shapes = jax.eval_shape(job.model.init, jax.random.key(0), *job.inputs)
    params = shapes["params"]
    state = jax.eval_shape(job.optimizer.init, params)
    owners = job.partitions.assign(params)
    found = masks.find(state).masks
    sizes = {path: math.prod(mask.shape) for path, mask in found.items()}

    def forward(params: Any, *inputs: Any) -> Any:
        others = {name: shapes[name] for name in shapes if name != "params"}
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), others)
        return job.model.apply({"params": params, **zeros}, *inputs)

    counted = masks.flops(forward, params, *job.inputs)
    left = counted.sparse(dict.fromkeys(found, config.masks.density))
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    held = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    lines = [f"{'partition':12s}{'leaves':>7s}{'entries':>14s}"]
    for name in job.partitions.names:
        mine = [sizes[path] for path, owner in owners.items() if owner == name]
        lines.append(f"{name:12s}{len(mine):7d}{sum(mine):14,d}")
    lines.append(f"{'not masked':12s}{'':7s}{total - sum(sizes.values()):14,d}")
    order = "cyclic" if config.masks.order == "random" else config.masks.order
    phases = masks.phases(
        owners,
        job.partitions.names,
        config.masks.phases,
        config.masks.epochs_per_phase * config.data.steps_per_epoch,
        order,
    )
    clock, together = epochs(config)
    lines += ["", str(phases), ""]
    lines.append(f"epochs: {clock:,} by the clock, {together:,} of all workers")
    lines.append(f"parameters: {total:,}; optimizer state with masks: {held / 2**20:,.0f} MiB")
    lines.append(
        f"forward pass of one example: {counted.dense / 1e9:,.2f} GFLOPs dense, {left / 1e9:,.2f} at "
        f"density {config.masks.density:g}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    # Here, since another module's flag of this name may be loaded too.
    CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.")
    app.run(lambda argv: print(report(CONFIG.value)))
