"""Operations of a step's backward pass, counted from shapes: of the plain network, and of what the rules keep of it."""

from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import analysis, masks
from sparsetrain.training import networks


def backward_flops(model: Any, inputs: tuple[Any, ...]) -> dict[str, int]:
    """Floating point operations of one worker's backward pass, a multiply-add counted as two.

        dense = 2 (sum_l F_l + rest),    needed = 2 (sum_l F_l K_l / O_l + rest) + sum_l runs_l (selection_l + memory_l)

    F_l are those of layer l in the forward pass, however often it runs in it (`masks.flops`); K_l of its O_l output
    gradients are kept. Rules that take turns count with the mean over their turns. What hardware executes may be more,
    see `analysis.backward_flops`; weights that a mask has taken away count as if they were there.

    Args:
      model: as from `networks.model`.
      inputs: what it is called with.

    Returns:
      "backward_flops", what is needed, and "dense_backward_flops", with both products of all layers, also of
      those that read the data; nothing where products run in a loop of unknown length.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain import backward, models
      >>> mlp = models.MLP(hidden=(20,), classes=10)
      >>> backward_flops(mlp, (jnp.zeros([4, 30]),))
      {'backward_flops': 12800, 'dense_backward_flops': 12800}
      >>> sparse = backward.linen.sparsify(mlp, {"hidden_0/kernel": backward.top_k(0.1)})
      >>> backward_flops(sparse, (jnp.zeros([4, 30]),))["backward_flops"]
      4400
    """
    turns = model.turns if isinstance(model, networks.Alternating) else (model,)
    plain = model.model if networks.has_rules(model) else model
    variables = dict(jax.eval_shape(plain.init, jax.random.key(0), *inputs))
    params = variables.pop("params")

    def forward(params: Any, *inputs: Any) -> Any:
        return plain.apply({**rest, "params": params}, *inputs)

    rest = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    try:
        found = masks.flops(forward, params, *inputs)
    except ValueError:
        return {}
    needed = sum(_needed(found, networks.layers(turn, inputs)) for turn in turns) / len(turns)
    return {"backward_flops": round(needed), "dense_backward_flops": 2 * found.dense}


def _needed(forward: masks.Flops, layers: list[Any]) -> float:
    """Operations of one turn, from those of the forward pass and what is known of its layers."""
    records = defaultdict(list)
    for shape in layers:
        records[shape.path].append(analysis.layer_of(shape))
    total = 2.0 * forward.other
    for path, count in forward.by_leaf.items():
        mine = records.get(path, [])
        costs = [analysis.backward_flops(layer) for layer in mine]
        if not sum(cost.dense for cost in costs):
            total += 2 * count
            continue
        # Of a record there is one; of a step in time, or of a layer that is shared, there are many.
        runs = 2 * count / sum(cost.dense for cost in costs)
        total += runs * sum(cost.needed + cost.selection + cost.memory for cost in costs)
    return total
