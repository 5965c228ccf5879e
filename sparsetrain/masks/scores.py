"""Scores at initialisation, from data: SNIP and GraSP."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Loss = Callable[[Any, Any], jax.Array]


def snip_scores(loss: Loss, params: Any, batch: Any) -> Any:
    """How much the loss would change if a connection were cut: SNIP.

        score_j = |w_j dL/dw_j|

    Args:
      loss: (params, batch) -> scalar.
      params: initial parameters; their variance should be that of a scaled initialisation.
      batch: one batch of the task.

    Returns:
      Tree like the parameters, for `static(..., scores=...)`; with distribution="global" as in the
      paper's code, which ranks all weights together.

    Reference: Lee et al., SNIP (arXiv 1810.02340), its reference code.

    Example:
      >>> loss = lambda params, batch: jnp.sum(params["w"] * batch)
      >>> snip_scores(loss, {"w": jnp.array([2.0, -3.0])}, jnp.array([1.0, 2.0]))["w"].tolist()
      [2.0, 6.0]
    """
    gradient = jax.grad(loss)(params, batch)
    return jax.tree.map(lambda w, g: jnp.abs(w * g), params, gradient)


def grasp_scores(loss: Loss, params: Any, batch: Any) -> Any:
    """How much the gradient's norm would suffer if a connection were cut: GraSP.

        score_j = w_j (H g)_j,    the reference code's -w_j (H g)_j with the sign turned

    Args:
      loss: (params, batch) -> scalar; the reference code divides the logits by 200.
      params: initial parameters.
      batch: a few examples of every class.

    Returns:
      Tree of float >= 0 like the parameters, for `static(..., scores=..., distribution="global")`:
      the scores are shifted so that the least is zero, since the largest magnitudes are kept.

    Differs from the reference code:
      1. The Hessian-vector product is taken of one batch; it takes that of two halves.
      2. Exactly k weights are kept.

    Reference: Wang et al., Picking Winning Tickets (GraSP, arXiv 2002.07376), its reference code.

    Example:
      >>> loss = lambda params, batch: 0.5 * jnp.sum(batch * params["w"] ** 2)
      >>> grasp_scores(loss, {"w": jnp.array([1.0, 2.0])}, jnp.array([1.0, 3.0]))["w"].tolist()
      [0.0, 35.0]
    """

    def gradient(params: Any) -> Any:
        return jax.grad(loss)(params, batch)

    g = gradient(params)
    _, curved = jax.jvp(gradient, (params,), (g,))
    scores = jax.tree.map(jnp.multiply, params, curved)
    least = jnp.min(jnp.stack([jnp.min(leaf) for leaf in jax.tree.leaves(scores)]))
    return jax.tree.map(lambda score: score - least, scores)
