"""Weights that stay dense while the model sees them pruned: what it sees is made here."""

import functools
from typing import Any

from sparsetrain import tree
from sparsetrain.masks.wrapper import MaskState, apply


@functools.singledispatch
def seen_by_the_model(state: Any, params: Any) -> Any:
    """Parameters as the forward pass gets them; each state type registers its own."""
    raise TypeError(f"no forward_params for a {type(state).__name__}")


@seen_by_the_model.register
def _(state: MaskState, params: Any) -> Any:
    return apply(params, state)


def forward_params(params: Any, state: Any) -> Any:
    """The sparse parameters that a model with dense shadow weights computes with.

        loss(forward_params(w)),    gradient at forward_params(w), update of w

    Args:
      params: shadow weights.
      state: an optimizer's state with that of one method of `masks` in it.

    Returns:
      A tree like `params`: m w for `dpf`, `admm` and all that own masks, the shrunken weights for
      `soft_threshold`.

    Raises:
      ValueError: no such state, or several.

    Example:
      >>> import jax.numpy as jnp
      >>> state = MaskState(0, {"w": jnp.array([[True, False]])}, (), (), 0.0)
      >>> forward_params({"w": jnp.array([[1.0, 2.0]])}, state)["w"].tolist()
      [[1.0, 0.0]]
    """
    kinds = tuple(kind for kind in seen_by_the_model.registry if kind is not object)
    found = tree.nodes(kinds, state)
    if len(found) != 1:
        raise ValueError(
            f"forward_params: the state holds {len(found)} states of masks; it needs exactly one"
        )
    return seen_by_the_model(found[0], params)
