"""Methods by name, for configs: those whose zeros are in the parameters themselves."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from sparsetrain import tree
from sparsetrain.masks.admm import admm
from sparsetrain.masks.deep_rewiring import deep_rewiring
from sparsetrain.masks.dynamic_reparameterization import dynamic_reparameterization
from sparsetrain.masks.evolutionary import evolutionary
from sparsetrain.masks.gradual import gradual
from sparsetrain.masks.grow_and_prune import grow_and_prune
from sparsetrain.masks.iterative import iterative
from sparsetrain.masks.one_shot import one_shot
from sparsetrain.masks.rigl import rigl
from sparsetrain.masks.static import static
from sparsetrain.masks.wrapper import MaskState

METHODS: dict[str, Callable[..., Any]] = {
    "admm": admm,
    "deep_rewiring": deep_rewiring,
    "dynamic_reparameterization": dynamic_reparameterization,
    "evolutionary": evolutionary,
    "gradual": gradual,
    "grow_and_prune": grow_and_prune,
    "iterative": iterative,
    "one_shot": one_shot,
    "rigl": rigl,
    "static": static,
}


def report(state: Any) -> dict[str, float]:
    """What a metrics record tells of the masks inside an optimizer's state.

    Args:
      state: of any optimizer.

    Returns:
      "density" of all masked leaves together and "mask_error", delta^2 of the latest pruning; nothing
      where there are no masks.

    Example:
      >>> masks = {"w": jnp.array([True, False])}
      >>> report(MaskState(jnp.int32(0), masks, (), (), jnp.float32(0.25)))
      {'density': 0.5, 'mask_error': 0.25}
    """
    found = tree.nodes(MaskState, state)
    if not found:
        return {}
    masks = [mask for node in found for mask in node.masks.values()]
    live = sum(int(jnp.sum(mask)) for mask in masks)
    error = max(float(node.mask_error) for node in found)
    return {"density": live / sum(mask.size for mask in masks), "mask_error": error}
