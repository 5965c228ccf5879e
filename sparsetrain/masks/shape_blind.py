"""Whether an optimizer treats a vector of a matrix's entries as it treats the matrix.

Compact storage needs that. It is found out by trying, on a tree like the model's with small leaves:
a list of names would forget wrappers, options and optimizers yet to come.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import tree
from sparsetrain.masks.compact import Compact, at_places, gathered
from sparsetrain.masks.wrapper import MaskOwner

# Moments need one update to show, schedules that begin at zero another.
UPDATES = 3
ROWS, COLUMNS = 4, 3
# Sums over a leaf, such as those of a norm, may be taken in another order.
TOLERANCE = 1e-4


def check(owner: MaskOwner, held: Compact) -> None:
    """Refuses optimizers that work on more than entries: they would train another model.

    Args:
      owner: the wrapper.
      held: what it is to work on.

    Raises:
      ValueError: names the optimizer by its states.
    """
    masked = {path for path, _ in held.shapes}
    ndims = {path: len(shape) for path, shape in held.shapes}
    pairs, structure = jax.tree_util.tree_flatten_with_path(held.params)
    kinds = []
    for path, leaf in pairs:
        name = tree.join(path)
        kinds.append((name in masked, ndims.get(name, leaf.ndim), jnp.dtype(leaf.dtype)))
    # One that takes over may find its state where the other one had it.
    states = (held.state.inner, held.state.fine_tune or held.state.inner)
    for optimizer, state in zip(owner.optimizers, states, strict=False):
        # First what costs nothing: whether its state would have these shapes.
        wanted = jax.eval_shape(optimizer.init, held.params)
        fault = _first_difference(state, wanted, False)
        with jax.ensure_compile_time_eval():
            fault = fault or _fault(optimizer, structure, tuple(kinds))
        if fault:
            names = ", ".join(dict.fromkeys(_names(state))) or "without state"
            raise ValueError(
                f"compact: the optimizer ({names}) does not treat kept entries alike in a matrix and "
                f"in a vector: {fault}. Take one that works entry by entry, such as sgd, adam, adamw, "
                "lion or rmsprop, or train in masked form"
            )


@functools.lru_cache(maxsize=32)
def _fault(
    optimizer: optax.GradientTransformationExtraArgs,
    structure: Any,
    kinds: tuple[tuple[bool, int, Any], ...],
) -> str:
    """What goes wrong in a few updates of a small tree; "" for nothing."""
    draw = np.random.RandomState(0)
    live = np.arange(ROWS * COLUMNS) % 5 < 2

    def drawn() -> Any:
        leaves = []
        for is_masked, ndim, dtype in kinds:
            shape = ((ROWS, COLUMNS) + (1,) * ndim)[:ndim]
            values = draw.uniform(0.5, 1.5, shape)
            if is_masked:
                values = values * live.reshape(shape)
            # All floats in float32, so that one tolerance does for them.
            is_float = jnp.issubdtype(dtype, jnp.floating)
            leaves.append(jnp.asarray(values, jnp.float32 if is_float else dtype))
        return jax.tree.unflatten(structure, leaves)

    params = drawn()
    masked = {path for path, kind in zip(tree.paths(params), kinds, strict=True) if kind[0]}
    places = dict.fromkeys(masked, jnp.asarray(np.flatnonzero(live), jnp.int32))

    def squeezed(node: Any) -> Any:
        """Parts like the parameters without masked entries."""
        return tree.map_like(lambda _, part: at_places(gathered, part, places), node, params)

    def undone(updates: Any) -> Any:
        """As the wrapper does it: masked weights stay where they are, at zero."""
        return at_places(lambda u, _: jnp.where(live.reshape(u.shape), u, 0), updates, places)

    zero = jnp.zeros(())
    try:
        state = optimizer.init(params)
        small, small_state = squeezed(params), squeezed(state)
        for _ in range(UPDATES):
            g = drawn()
            # Some want to know the loss.
            u, state = optimizer.update(g, state, params, value=zero)
            small_u, small_state = optimizer.update(squeezed(g), small_state, small, value=zero)
            if fault := _first_difference((small_u, small_state), squeezed((u, state)), True):
                return fault
            params = optax.apply_updates(params, undone(u))
            small = optax.apply_updates(small, small_u)
    except Exception as error:  # Whatever an optimizer of unknown kind may raise.
        return f"{type(error).__name__}: {error}"
    return ""


def _first_difference(found: Any, wanted: Any, in_values: bool) -> str:
    """Where two trees differ in structure, shapes, or floats beyond rounding; "" if nowhere."""
    structures: list[Any] = [jax.tree.structure(each) for each in (found, wanted)]
    if structures[0] != structures[1]:
        return "its state has another structure"
    pairs = jax.tree_util.tree_leaves_with_path(found)
    for (path, leaf), other in zip(pairs, jax.tree.leaves(wanted), strict=True):
        if leaf.shape != other.shape:
            return f"{tree.join(path)} has shape {leaf.shape} where {other.shape} is wanted"
        if in_values and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size:
            a, b = np.asarray(leaf, np.float64), np.asarray(other, np.float64)
            if not np.allclose(a, b, rtol=0, atol=TOLERANCE * max(np.abs(b).max(), 1e-30)):
                return f"{tree.join(path)} differs"
    return ""


def _names(node: Any) -> Iterator[str]:
    """Types of the states inside a state, except empty ones."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        if node:
            yield type(node).__name__
        children: Any = node
    elif isinstance(node, dict):
        children = node.values()
    else:
        children = node if isinstance(node, list | tuple) else ()
    for child in children:
        yield from _names(child)
