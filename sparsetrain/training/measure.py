"""What is measured beside loss and accuracy: kept fraction, memory norm, gradient angle."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import analysis


def kept_fraction(layers: Iterable[Any]) -> float:
    """Share of output-gradient entries that the rules let through, over all layers they match.

    Each matched layer's rule selects once from a random cotangent of that layer's size, and the
    entries that come out are counted; nothing is read off the configured density.

    Args:
      layers: records as from `backward.linen.sparsify(...).layers(...)`, with `path`, `rows`,
        `output_shape`, `positions` and `rule` (None for a layer that no rule matches).

    Returns:
      Kept entries / entries, 1.0 where no layer is matched.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from sparsetrain import backward, models
      >>> rules = {r"hidden_0/kernel": backward.top_k(density=0.1)}
      >>> model = backward.linen.sparsify(models.MLP(hidden=(20,)), rules)
      >>> kept_fraction(model.layers(jax.random.key(0), jnp.zeros([4, 3])))
      0.1
    """
    kept = entries = 0
    for layer in layers:
        if layer.rule is None:
            continue
        rows, outputs = layer.rows, math.prod(layer.output_shape)
        if layer.rule.shares_columns:
            rows *= layer.positions
        else:
            outputs *= layer.positions
        cotangent = jax.random.normal(jax.random.key(0), (rows, outputs))
        chosen = layer.rule.select(cotangent, layer.rule.init((outputs,), rows), rows=rows)
        kept += int(jnp.count_nonzero(chosen.values))
        entries += rows * outputs
    return kept / entries if entries else 1.0


def memory_norm(variables: Mapping[str, Any]) -> jax.Array:
    """Euclidean norm of what is remembered, over all layers.

    The stored total M is measured, which a step spreads over its rows; with a mean loss it has the
    scale of the batch gradient of a bias. Scalars are step counters, not memories, and are left
    out.

    Args:
      variables: may have a "memory" collection.

    Returns:
      float32 scalar, 0 without memory.

    Example:
      >>> import jax.numpy as jnp
      >>> memory = {"hidden": jnp.array([3.0, 4.0]), "counter": jnp.array(9.0)}
      >>> float(memory_norm({"memory": memory}))
      5.0
    """
    memories = [m for m in jax.tree.leaves(variables.get("memory", {})) if m.ndim]
    return optax.tree.norm(memories) if memories else jnp.zeros([], jnp.float32)


def gradient_angles(
    loss: Callable[..., jax.Array],
    variables: Mapping[str, Any],
    dense_variables: Mapping[str, Any],
    examples: Any,
    batch_size: int,
    paths: Collection[str] = (),
) -> dict[str, jax.Array]:
    """Angles between the sparse and the true gradient on the same examples.

        delta = angle(mean_b g_b, mean_b grad l_b)        b: the batches that the examples fall into

    Dropout is off. Every batch receives the memory that `variables` holds, as the next training
    step would.

    Args:
      loss: (variables, batch) -> mean loss.
      variables: variables under which the gradient of `loss` is sparse.
      dense_variables: variables with the same "params" under which it is the true one.
      examples: tree of arrays [N, ...]; the last N mod batch_size examples are left out.
      batch_size: rows of a training step, on which unified selection and memory depend; at most N.
      paths: parameters whose own angle is wanted too.

    Returns:
      "gradient_angle", of all parameters as one vector, and "gradient_angle/<path>" for every
      path; float32 scalars in radians, 0 to pi, NaN where a gradient is zero.

    Raises:
      ValueError: fewer examples than one batch.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 3.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(variables, x):  # a "memory" hides the second weight's gradient
      ...     weights = jnp.array([1.0, 0.0 if "memory" in variables else 1.0])
      ...     return jnp.sum(weights * variables["params"]["w"] * x.mean(0))
      >>> dense = {"params": {"w": jnp.ones(2)}}
      >>> sparse = dense | {"memory": {}}
      >>> angles = gradient_angles(loss, sparse, dense, jnp.ones([4, 2]), batch_size=2)
      >>> round(float(angles["gradient_angle"]), 3)                             # pi / 4
      0.785
    """
    there = jax.tree.leaves(examples)[0].shape[0]
    taken = there // batch_size * batch_size
    if taken == 0:
        raise ValueError(
            f"batch_size={batch_size}: more than the {there} examples of the angle; give more"
        )
    data = (jax.tree.map(lambda leaf: leaf[:taken], examples),)

    def mean_gradient(variables: Mapping[str, Any]) -> Any:
        def of_params(params: Any, batch: Any) -> jax.Array:
            return loss({**variables, "params": params}, batch)

        return analysis.full_data_gradient(of_params, variables["params"], data, batch_size)

    sparse, true = mean_gradient(variables), mean_gradient(dense_variables)
    leaves = analysis.angle_per_leaf(sparse, true)
    return {"gradient_angle": analysis.angle(sparse, true)} | {
        f"gradient_angle/{path}": leaves[path] for path in paths
    }
