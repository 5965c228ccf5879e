"""What an update has to know of a change of masks; where nothing changes it costs a bit a weight."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain import tree
from sparsetrain.masks import bits
from sparsetrain.masks.rule import Change, Masks, Rule


class Boundary(NamedTuple):
    """Masks of the next update, and what became of single weights.

    Attributes:
      masks: path -> bool, of the next update.
      differ: path -> packed: where they are not those of this update.
      regrown: path -> packed: dropped and grown in one change; {} where the rule never `regrows`.
      sown: path -> first values of grown weights, zeros elsewhere; {} where it never `sows`.
      error: float32 scalar, delta^2 of the latest pruning.
      memory: of the rule.
    """

    masks: dict[str, jax.Array]
    differ: dict[str, jax.Array]
    regrown: dict[str, jax.Array]
    sown: dict[str, jax.Array]
    error: jax.Array
    memory: Any

    def masks_before(self) -> dict[str, jax.Array]:
        """Masks of this update."""
        return {
            path: mask ^ bits.unpack(self.differ[path], mask.shape)
            for path, mask in self.masks.items()
        }

    def moves(self, updates: Any, params: Any) -> Any:
        """Updates that lead to the weights of the change; without a change all live ones go on.

        Args:
          updates: of the optimizer.
          params: parameters before it.

        Returns:
          A tree like `updates`.
        """

        def at(path: Any, move: jax.Array, p: jax.Array) -> jax.Array:
            name = tree.join(path)
            if name not in self.masks:
                return move
            goes_on = self.masks[name] & ~bits.unpack(self.differ[name], p.shape)
            if name in self.regrown:
                goes_on &= ~bits.unpack(self.regrown[name], p.shape)
            # In the wider dtype of the two, in which p + (-p) is zero.
            return jnp.where(goes_on, move, self.sown[name] - p if name in self.sown else -p)

        return jax.tree_util.tree_map_with_path(at, updates, params)


def none(rule: Rule, masks: Masks, leaves: Masks, error: jax.Array, memory: Any) -> Boundary:
    """No change.

    Args:
      rule: of the masks.
      masks: path -> bool.
      leaves: path -> parameter.
      error, memory: as they are.

    Returns:
      A boundary at which everything stays.

    Example:
      >>> from sparsetrain.masks.static import StaticRule
      >>> rule, mask = StaticRule(0.5, None, "uniform", None, None, None), jnp.array([[True, False]])
      >>> at = none(rule, {"w": mask}, {"w": jnp.array([[3.0, 0.0]])}, 0.0, ())
      >>> at.moves({"w": jnp.ones((1, 2))}, {"w": jnp.array([[3.0, 4.0]])})["w"].tolist()
      [[1.0, -4.0]]
    """
    nowhere = {
        path: jnp.zeros(bits.packed_shape(mask.shape), jnp.uint8) for path, mask in masks.items()
    }
    sown = {path: jnp.zeros_like(leaves[path]) for path in masks} if rule.sows else {}
    return Boundary(dict(masks), nowhere, nowhere if rule.regrows else {}, sown, error, memory)


def between(rule: Rule, old: Masks, new: Change, leaves: Masks) -> Boundary:
    """What a rule's change means for single weights.

    Args:
      rule: of the masks.
      old: path -> bool, masks of this update.
      new: the change.
      leaves: path -> parameter.

    Returns:
      The boundary.

    Example:
      >>> from sparsetrain.masks.static import StaticRule
      >>> rule, old = StaticRule(0.5, None, "uniform", None, None, None), {"w": jnp.array([[True, False]])}
      >>> at = between(rule, old, Change({"w": jnp.array([[False, True]])}, 0.0), old)
      >>> at.masks_before()["w"].tolist()
      [[True, False]]
    """
    kept = old if new.kept is None else new.kept
    fresh = {path: mask & ~(old[path] & kept[path]) for path, mask in new.masks.items()}
    regrown = {path: bits.pack(mask & old[path]) for path, mask in fresh.items()}
    sown = {}
    if rule.sows and new.weights is not None:
        sown = {
            path: jnp.where(fresh[path], leaf, 0).astype(leaves[path].dtype)
            for path, leaf in new.weights.items()
        }
    return Boundary(
        dict(new.masks),
        {path: bits.pack(mask ^ old[path]) for path, mask in new.masks.items()},
        regrown if rule.regrows else {},
        sown,
        new.error,
        new.memory,
    )
