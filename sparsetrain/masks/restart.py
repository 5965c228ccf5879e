"""What of an optimizer's state outlives a change of masks: counts, and what is still owed to live weights."""

from collections.abc import Callable
from typing import Any

import jax


def declared(node: Any) -> bool:
    """Whether a state class says by `survives_restart` which of its fields no restart touches.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> declared(optax.trace(0.9).init(jnp.ones(2)))
      False
    """
    return hasattr(node, "survives_restart")


def restarted(held: Any, fresh: Any, alive: Callable[[Any], Any]) -> Any:
    """The state with which an optimizer goes on after its masks have changed.

    Moments and schedules begin anew. What a class names in `survives_restart() -> field names` does not: bits that
    have been sent, the parameters that workers agreed upon, what is held back for the next message. Of these the
    entries of dead weights go, else they would be sent sometime although nobody can use them.

    Args:
      held: state of the optimizer.
      fresh: its state at the beginning, with the same structure.
      alive: sets the entries of dead weights to zero in a part of the state.

    Returns:
      A state like both.

    Example:
      >>> from typing import NamedTuple
      >>> class Sent(NamedTuple):
      ...     bits: int
      ...     momentum: float
      ...     @staticmethod
      ...     def survives_restart():
      ...         return ("bits",)
      >>> restarted((Sent(8, 0.5), 0.7), (Sent(0, 0.0), 0.0), lambda part: part)
      (Sent(bits=8, momentum=0.0), 0.0)
    """

    def at(old: Any, new: Any) -> Any:
        if not declared(old):
            return new
        names = old.survives_restart()
        fields = {
            name: alive(part) if name in names else restarted(part, getattr(new, name), alive)
            for name, part in old._asdict().items()
        }
        return type(old)(**fields)

    return jax.tree.map(at, held, fresh, is_leaf=declared)
