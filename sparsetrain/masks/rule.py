"""What a method of sparse weights has to say: when masks change, and how."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Masks = Mapping[str, jax.Array]


class Change(NamedTuple):
    """What a rule makes of the masks at a boundary.

    Attributes:
      masks: path -> bool.
      error: float32 scalar, delta^2 = |w - m w|^2 / |w|^2 over the weights that could be pruned.
      kept: path -> bool, weights that go on with the value they have; None for all that were live and
        still are. Looked at where the rule `regrows`.
      weights: path -> values of the live weights that were not kept; None for zeros. Looked at where
        the rule `sows`.
      memory: what the rule remembers from now on; like `Rule.remember`'s.
    """

    masks: dict[str, jax.Array]
    error: jax.Array
    kept: dict[str, jax.Array] | None = None
    weights: dict[str, jax.Array] | None = None
    memory: Any = ()


class Rule(abc.ABC):
    """When masks change, and how.

    Attributes:
      takes_step: whether a change takes the place of that update's optimizer step.
      restart: what of the optimizer's state starts anew at a change: "all", "grown" weights' entries, or
        "none".
      regrows: whether a live weight may be dropped and grown anew in one change.
      sows: whether weights may get other values than zero or their own in a change.
      has_shadows: whether masked weights keep their values, for `forward_params` to hide.
      grows_by_gradient: whether a change reads the gradients of masked weights.
    """

    takes_step: bool = False
    restart: str = "none"
    regrows: bool = False
    sows: bool = False
    has_shadows: bool = False
    grows_by_gradient: bool = False

    @abc.abstractmethod
    def start(self, params: Any) -> dict[str, jax.Array]:
        """First masks."""

    def remember(self, params: Any, masks: Masks) -> Any:
        """What is remembered beside the masks, at first; arrays of fixed shapes."""
        del params, masks
        return ()

    def widens(self, step: jax.Array) -> jax.Array | None:
        """Whether the update after `step` others uses more masks than the state has; None for never."""
        del step
        return None

    def used(self, masks: Masks, step: jax.Array) -> dict[str, jax.Array]:
        """Masks of that update."""
        del step
        return dict(masks)

    @abc.abstractmethod
    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether masks change at the end of update number `step`, counted from 1; bool scalar."""

    @abc.abstractmethod
    def change(
        self,
        weights: dict[str, jax.Array],
        masks: dict[str, jax.Array],
        gradients: dict[str, jax.Array],
        step: jax.Array,
        memory: Any,
    ) -> Change:
        """New masks, from the weights after that update and the gradients before masking."""


def mask_error(before: Masks, after: Masks) -> jax.Array:
    """What pruning takes away: delta^2 of GaP's Proposition 1.

        |w - m w|^2 / |w|^2

    Args:
      before: path -> weights that could be pruned.
      after: path -> their masks.

    Returns:
      float32 scalar; 0 where all weights are zero.

    Example:
      >>> float(mask_error({"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([False, True])})).__round__(4)
      0.36
    """
    squares = {path: jnp.square(leaf.astype(jnp.float32)) for path, leaf in before.items()}
    held = sum(jnp.sum(each) for each in squares.values())
    lost = sum(jnp.sum(jnp.where(after[path], 0.0, each)) for path, each in squares.items())
    return jnp.asarray(lost / jnp.maximum(held, jnp.finfo(jnp.float32).tiny), jnp.float32)
