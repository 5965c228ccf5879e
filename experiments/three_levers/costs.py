"""Operations of the backward pass of a whole run, counted from shapes, kept entries and the schedule of the masks."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import ml_collections

from sparsetrain import analysis, backward, masks, selection
from sparsetrain.training import build
from sparsetrain.training.tasks import Images

INPUTS = 28 * 28


def layers(config: ml_collections.ConfigDict) -> list[analysis.Layer]:
    """A record of every layer, as one worker's backward pass sees it.

    Args:
      config: of a run; its model is an MLP on images of 28 x 28.

    Returns:
      Records in the order of the layers; the first reads data, so that it needs no dx.
    """
    rules = build.rules(config.backward) or {config.backward.layers: backward.dense()}
    frozen = ml_collections.FrozenConfigDict(config)
    model = build.model(frozen.model, rules, Images(classes=10), row_sparse=False)
    shapes = model.layers(jax.random.key(0), jnp.zeros((config.data.batch_size, INPUTS)))
    return [analysis.layer_of(shape, input_gradient=i > 0) for i, shape in enumerate(shapes)]


def live(
    config: ml_collections.ConfigDict, found: Sequence[analysis.Layer], steps: int
) -> dict[str, float]:
    """Mean share of a layer's weights that exist, over the steps of a run.

    Args:
      config: of a run.
      found: its layers.
      steps: optimizer steps of it.

    Returns:
      Path of a kernel -> share; layers that are never masked are left out.
    """
    plan = config.masks
    if plan.name == "none":
        return {}
    sizes = {f"params/{layer.path}": layer.inputs * layer.outputs for layer in found}
    parts = masks.partitions(dict(plan.partitions), dense=plan.dense)
    owners = parts.assign({path: jnp.zeros((1, 1)) for path in sizes})
    schedule = masks.phases(owners, parts.names, plan.phases, plan.steps_per_phase)
    shares = {}
    for path in owners:
        sparse = selection.count(sizes[path], plan.density) / sizes[path]
        grown = sum(path in phase for phase in schedule.grown) * plan.steps_per_phase
        shares[path.removeprefix("params/")] = (grown + (steps - grown) * sparse) / steps
    return shares


def backward_flops(config: ml_collections.ConfigDict, steps: int) -> Mapping[str, float]:
    """Operations of all workers' backward passes.

        needed = steps * workers * sum_l (live_l products_l(K_l) + selection_l + memory_l)

    `products(K)` are both products of `analysis.backward_flops` over kept entries only. A weight that does not exist
    takes part in neither: dx = g W^T does not read it, and of dW = x^T g only entries of live weights are used, since
    C-GaP grows whole layers and never asks what a dead weight's gradient would be.

    Args:
      config: of a run.
      steps: optimizer steps of it.

    Returns:
      "dense", "needed", and "overhead", the part of "needed" that is selection and memory.
    """
    found = layers(config)
    share = live(config, found, steps)
    counts = {layer.path: analysis.backward_flops(layer) for layer in found}
    all_workers = steps * config.workers
    overhead = sum(count.selection + count.memory for count in counts.values())
    products = sum(share.get(path, 1.0) * count.needed for path, count in counts.items())
    return {
        "dense": float(all_workers * sum(count.dense for count in counts.values())),
        "needed": float(all_workers * (products + overhead)),
        "overhead": float(all_workers * overhead),
    }
