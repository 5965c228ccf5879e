"""Soft threshold reparameterization (STR): every layer learns how much it shrinks its weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain import tree
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.shadow import seen_by_the_model


class SoftThresholdState(NamedTuple):
    """State of `soft_threshold`."""

    thresholds: dict[str, jax.Array]  # path -> float32 scalar s_l, before the sigmoid
    threshold_state: Any  # of the thresholds' optimizer
    inner: Any  # of the weights' optimizer


@seen_by_the_model.register
def _(state: SoftThresholdState, params: Any) -> Any:
    def at(path: Any, leaf: jax.Array) -> jax.Array:
        s = state.thresholds.get(tree.join(path))
        return leaf if s is None else shrink(leaf, s)

    return jax.tree_util.tree_map_with_path(at, params)


def shrink(weights: jax.Array, s: jax.Array) -> jax.Array:
    """sign(w) relu(|w| - sigmoid(s)).

    Example:
      >>> shrink(jnp.array([1.0, -0.25]), jnp.float32(0.0)).tolist()
      [0.5, 0.0]
    """
    size = jnp.abs(weights) - jax.nn.sigmoid(s).astype(weights.dtype)
    return jnp.where(size > 0, jnp.sign(weights) * size, jnp.zeros_like(size))


def soft_threshold(
    inner: optax.GradientTransformation,
    *,
    thresholds: optax.GradientTransformation,
    initial: float,
    dense: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Learns one threshold a layer by gradient descent; sparsity is what comes of it.

        W~ = sign(W) relu(|W| - sigmoid(s_l)),
        dL/dW = dL/dW~ [W~ != 0],    dL/ds_l = -sigmoid'(s_l) sum_j sign(w_j) dL/dw~_j [w~_j != 0]

    Args:
      inner: optimizer of the weights; its weight decay lets them fall under the threshold.
      thresholds: optimizer of the s_l; in the reference code the same as the weights', weight decay
        included: that is what moves s from its very low start, since the gradient there is zero.
      initial: first s of every layer; -3200 for ResNet-50 at a weight decay of 2.25e-5.
      dense: expression of paths that are not shrunk.

    Returns:
      A transformation without masks. Gradients must be those at `masks.forward_params(params, state)`:
      the gradients of weights and thresholds follow from them by the chain rule. A trained model is
      `forward_params` too.

    Raises:
      ValueError: no params in `update`; at `init`, nothing to shrink.

    Reference: Kusupati et al., Soft Threshold Weight Reparameterization (arXiv 2002.03231), its
      reference code.

    Example:
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[1.0, -0.25]])}
      >>> tx = masks.soft_threshold(optax.sgd(0.1), thresholds=optax.sgd(0.1), initial=0.0)
      >>> state = tx.init(params)
      >>> masks.forward_params(params, state)["kernel"].tolist()
      [[0.5, 0.0]]
      >>> updates, state = tx.update({"kernel": jnp.ones((1, 2))}, state, params)
      >>> updates["kernel"].round(3).tolist(), f"{state.thresholds['kernel']:.3f}"
      ([[-0.10000000149011612, -0.0]], '0.025')
    """
    of_weights, of_thresholds = (
        optax.with_extra_args_support(each) for each in (inner, thresholds)
    )

    def init_fn(params: Any) -> SoftThresholdState:
        first = {path: jnp.float32(initial) for path in prunable(params, dense)}
        return SoftThresholdState(first, of_thresholds.init(first), of_weights.init(params))

    def update_fn(
        updates: Any, state: SoftThresholdState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, SoftThresholdState]:
        if params is None:
            raise ValueError("soft_threshold: call update(grads, state, params)")
        gradients, weights = leaves_by_path(updates), leaves_by_path(params)
        is_on, slopes = {}, {}
        for path, s in state.thresholds.items():
            height, slope = jax.value_and_grad(jax.nn.sigmoid)(s)
            w, g = weights[path], gradients[path]
            is_on[path] = jnp.abs(w) > height.astype(w.dtype)
            moved = jnp.where(is_on[path], jnp.sign(w) * g, 0).astype(jnp.float32)
            slopes[path] = -slope * jnp.sum(moved)

        def own(path: Any, g: jax.Array) -> jax.Array:
            on = is_on.get(tree.join(path))
            return g if on is None else jnp.where(on, g, jnp.zeros_like(g))

        u, inner_state = of_weights.update(
            jax.tree_util.tree_map_with_path(own, updates), state.inner, params, **extra_args
        )
        moves, threshold_state = of_thresholds.update(
            slopes, state.threshold_state, state.thresholds, **extra_args
        )
        found = optax.apply_updates(state.thresholds, moves)
        return u, SoftThresholdState(found, threshold_state, inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
