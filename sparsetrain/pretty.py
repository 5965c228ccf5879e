"""How states and payloads show themselves: a line as `repr`, and a tree under treescope.

A mask of a million booleans says nothing that its count does not say better. A class has a method
`_facts() -> {name: value}` and, in its body, `__repr__ = pretty.line` and `__treescope_repr__ = pretty.scope`,
the protocol of treescope, which is not needed for anything else.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def concrete(value: Any) -> np.ndarray | None:
    """An array's values, if they can be looked at: not while a program is traced, not on other machines.

    Example:
      >>> concrete(jax.numpy.ones(2)).tolist(), concrete(jax.ShapeDtypeStruct((2,), float))
      ([1.0, 1.0], None)
    """
    if isinstance(value, jax.core.Tracer) or not hasattr(value, "dtype"):
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):  # A key of jax.random has no values.
        return None
    if isinstance(value, jax.Array):
        if value.is_deleted() or not value.is_fully_addressable:
            return None
    elif not isinstance(value, np.ndarray | np.generic):
        return None
    return np.asarray(value)


def brief(value: Any) -> Any:
    """A scalar as a Python number; of a larger array dtype and shape; anything else as it is.

    Example:
      >>> brief(jax.numpy.int32(3)), brief(jax.numpy.ones((2, 3))), brief("x")
      (3, float32[2,3], 'x')
    """
    seen = concrete(value)
    if seen is not None and seen.ndim == 0:
        return seen.item()
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return Text(f"{value.dtype}[{','.join(map(str, value.shape))}]")
    return value


def share(mask: Any) -> Any:
    """How many of a mask are live; what it is, where that cannot be seen.

    Example:
      >>> share(jax.numpy.array([True, False, False, False]))
      1 of 4 (0.25)
    """
    seen = concrete(mask)
    if seen is None or seen.dtype != bool or not seen.size:
        return brief(mask)
    return part(int(seen.sum()), seen.size)


def part(kept: int, entries: int) -> Any:
    """A number of entries, of how many, and their density.

    Example:
      >>> part(3, 8)
      3 of 8 (0.375)
    """
    return Text(f"{kept:,} of {entries:,} ({kept / max(1, entries):.4g})")


def extent(values: Any) -> Any:
    """Of a tree the number of arrays and entries, and the Euclidean norm if it can be seen.

    Example:
      >>> extent({"a": jax.numpy.array([3.0, 0.0]), "b": jax.numpy.array([[4.0]])}), extent(())
      (2 arrays of 3 entries, norm 5, nothing)
    """
    leaves = [leaf for leaf in jax.tree.leaves(values) if hasattr(leaf, "shape")]
    if not leaves:
        return Text("nothing")
    text = f"{len(leaves):,} arrays of {sum(math.prod(leaf.shape) for leaf in leaves):,} entries"
    squares = 0.0
    for leaf in leaves:
        seen = concrete(leaf)
        if seen is None or not jnp.issubdtype(seen.dtype, jnp.floating):
            return Text(text)
        squares += float(np.square(seen.astype(np.float64)).sum())
    return Text(f"{text}, norm {math.sqrt(squares):.4g}")


class Text(str):
    """Text that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def line(node: Any) -> str:
    """`repr` of an object with `_facts`.

    Example:
      >>> class Thing:
      ...     __repr__ = line
      ...     def _facts(self):
      ...         return {"step": jax.numpy.int32(3)}
      >>> Thing()
      Thing(step=3)
    """
    facts = ", ".join(f"{name}={brief(value)!r}" for name, value in node._facts().items())
    return f"{type(node).__name__}({facts})"


def state(node: Any) -> str:
    """`repr` of a named tuple whose fields are trees, scalars, or show themselves.

    Example:
      >>> import collections
      >>> State = collections.namedtuple("State", ["step", "residual"])
      >>> state(State(jax.numpy.int32(2), {"w": jax.numpy.ones(4)}))
      'State(step=2, residual=1 arrays of 4 entries, norm 2)'
    """

    def shown(value: Any) -> Any:
        if hasattr(value, "_facts") or (hasattr(value, "ndim") and not value.ndim):
            return brief(value)
        return extent(value)

    facts = ", ".join(f"{name}={shown(value)!r}" for name, value in node._asdict().items())
    return f"{type(node).__name__}({facts})"


def scope(node: Any, path: str | None, subtree_renderer: Any) -> Any:
    """`__treescope_repr__` of an object with `_facts`: what `repr` shows, to be unfolded."""
    from treescope import repr_lib  # Only treescope calls this.

    return repr_lib.render_object_constructor(
        object_type=type(node),
        attributes=node._facts(),
        path=path,
        subtree_renderer=subtree_renderer,
    )
