"""What happens at few steps only, in place."""

from collections.abc import Callable
from typing import TypeVar

import jax

from sparsetrain import varying

State = TypeVar("State")


def seldom(
    is_due: jax.Array, change: Callable[[State], State], state: State
) -> tuple[State, jax.Array]:
    """Changes a state where it is due; where not, its arrays are neither copied nor read.

    A loop of one turn or none. `lax.cond` would write its result to memory of its own: where nothing
    changes, a copy of the whole state, and a second one back to where a donated state has to be.

    Args:
      is_due: bool scalar.
      change: state -> a state of the same structure, shapes and dtypes.
      state: tree of arrays.

    Returns:
      The state, and `is_due` as the loop knows it, which the compiler does not foresee: what depends
      on it runs after the change.

    Example:
      >>> import jax.numpy as jnp
      >>> [int(seldom(jnp.bool_(due), lambda n: n + 1, jnp.int32(4))[0]) for due in (False, True)]
      [4, 5]
    """

    def turn(carried: tuple[jax.Array, jax.Array, State]) -> tuple[jax.Array, jax.Array, State]:
        waits, _, held = carried
        return waits & False, waits, change(held)

    _, was_due, held = varying.while_loop(lambda c: c[0], turn, (is_due, is_due & False, state))
    return held, was_due
