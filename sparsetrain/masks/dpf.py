"""Dynamic pruning with feedback (DPF): the gradient of the pruned model moves all weights."""

from typing import Any

import optax

from sparsetrain.masks.gradual import ramp
from sparsetrain.masks.wrapper import own_masks


def dpf(
    inner: optax.GradientTransformation,
    density: float,
    *,
    begin: int = 1,
    end: int,
    every: int = 16,
    initial_density: float = 1.0,
    dense: str | None = None,
    distribution: Any = "global",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Trains dense shadow weights with gradients taken at their pruned form.

        w <- w - eta g(m w),    m = the largest |w|, found anew every so many updates

    What pruning takes away, w - m w, stays in w: error feedback for pruning.

    Args:
      inner: the optimizer, of all weights.
      density: at the end of the ramp, 0 < density <= 1.
      begin: updates before the first pruning.
      end: updates at which `density` is reached; masks change on after it.
      every: updates between new masks.
      initial_density: where the cubic ramp begins.
      dense: expression of paths that are never masked.
      distribution: "global", "uniform", "erk", or path expression -> density.
      structure: "unstructured" or `block(rows, columns)`.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks. Gradients must be those at
      `masks.forward_params(params, state)`, and a trained model is that too; nothing is undone, so
      that it need not be last in a chain.

    Raises:
      ValueError: an argument out of range, n:m masks.

    Reference: Lin et al., Dynamic Model Pruning with Feedback (arXiv 2006.07253). Our summary of it
      gives every=16 as unverified.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[1.0, -3.0], [2.0, 0.5]])}
      >>> tx = masks.dpf(optax.sgd(1.0), 0.5, end=1)
      >>> updates, state = tx.update({"kernel": jnp.ones((2, 2))}, tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> params["kernel"].tolist(), masks.forward_params(params, state)["kernel"].tolist()
      ([[0.0, -4.0], [1.0, -0.5]], [[0.0, -4.0], [1.0, 0.0]])
    """
    rule = ramp(
        density,
        begin,
        end,
        every,
        initial_density,
        dense,
        distribution,
        structure,
        has_shadows=True,
    )
    return own_masks(inner, rule, mask_gradients=False, axis_name=axis_name)
