"""Branches and loops under `shard_map`, where a type says over which mesh axes a value differs.

JAX wants both branches of a `cond`, and what a loop begins with and goes on with, to be of one type.
A constant, or what `psum` returns, is the same on all devices; what is computed of a shard is not. So
the types are joined here: what differs between devices one way is said to differ every way. Values
stay as they are, and outside `shard_map` these are the functions of `jax.lax` themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax import lax

T = TypeVar("T")


def axes_of(*values: Any) -> frozenset[Any]:
    """Mesh axes over which any of these values differs between devices.

    Args:
      *values: trees of arrays, or of what `jax.eval_shape` returns.

    Returns:
      Names of axes; none outside `shard_map`, or with `check_vma=False`, where types say nothing.

    Example:
      >>> import jax.numpy as jnp
      >>> mesh = jax.make_mesh((1,), ("workers",), axis_types=(jax.sharding.AxisType.Auto,))
      >>> def shard(x):
      ...     print(sorted(axes_of(x)), sorted(axes_of(lax.psum(x, "workers"))))
      ...     return x
      >>> rows = jax.sharding.PartitionSpec("workers")
      >>> _ = jax.shard_map(shard, mesh=mesh, in_specs=rows, out_specs=rows)(jnp.ones(1))
      ['workers'] []
    """
    types = [
        leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
        for leaf in jax.tree.leaves(values)
    ]
    known = (each.manual_axis_type for each in types)
    return frozenset().union(*(kind.varying for kind in known if kind is not None))


def over(axes: frozenset[Any], values: T) -> T:
    """The values, said to differ between devices along these axes too.

    Args:
      axes: names of mesh axes.
      values: tree of arrays.

    Returns:
      The same numbers; where no type changes, the same arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> mesh = jax.make_mesh((1,), ("workers",), axis_types=(jax.sharding.AxisType.Auto,))
      >>> def shard(x):
      ...     return lax.fori_loop(0, 2, lambda i, sum: sum + x, over(axes_of(x), jnp.zeros(1)))
      >>> rows = jax.sharding.PartitionSpec("workers")
      >>> jax.shard_map(shard, mesh=mesh, in_specs=rows, out_specs=rows)(jnp.ones(1)).tolist()
      [2.0]
    """
    return jax.tree.map(
        lambda leaf: lax.pcast(leaf, tuple(axes - axes_of(leaf)), to="varying"), values
    )


def shaped(shape: tuple[int, ...], dtype: Any, *operands: Any) -> jax.ShapeDtypeStruct:
    """What a kernel returns that says shape and dtype only: it differs between devices as its operands do.

    Args:
      shape: of the result.
      dtype: of the result.
      *operands: trees of arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> shaped((2,), jnp.float32, jnp.ones(3)).shape
      (2,)
    """
    axes = axes_of(*operands)
    if not axes:
        return jax.ShapeDtypeStruct(shape, dtype)
    kind = jax.sharding.ManualAxisType(varying=axes)
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=kind)


def of_all(axis_name: Any, values: T) -> T:
    """The values of all workers of a named axis, on each: the same everywhere, also to the types.

    Args:
      axis_name: one name or a tuple of names, of `vmap` or `shard_map`.
      values: tree of arrays.

    Returns:
      Every array with a new leading axis [W].

    Example:
      >>> import jax.numpy as jnp
      >>> jax.vmap(lambda x: of_all("workers", x), out_axes=None, axis_name="workers")(jnp.arange(2)).tolist()
      [0, 1]
    """
    if not _in_shard_map():
        return jax.tree.map(lambda leaf: lax.all_gather(leaf, axis_name), values)
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    manual = frozenset(names) & frozenset(jax.sharding.get_abstract_mesh().manual_axes)
    return jax.tree.map(
        lambda leaf: lax.all_gather(leaf, axis_name, to="invarying"), over(manual, values)
    )


def agreed(axis_name: Any, values: T) -> T:
    """Values that are the same on all workers of an axis, and are now known to be.

    What came by `ppermute` may be the same everywhere; its type says that it differs. Under
    `shard_map` a maximum over the workers says otherwise, at the cost of an all-reduce.

    Args:
      axis_name: one name or a tuple of names, of `vmap` or `shard_map`.
      values: tree of arrays.

    Returns:
      The same numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> jax.vmap(lambda x: agreed("workers", x), axis_name="workers")(jnp.ones(2)).tolist()
      [1.0, 1.0]
    """
    return lax.pmax(values, axis_name) if axes_of(values) else values


def cond(predicate: jax.Array, yes: Callable[..., T], no: Callable[..., T], *operands: Any) -> T:
    """`lax.cond` whose branches may differ in what is the same on all devices.

    Args:
      predicate: bool scalar.
      yes: operands -> tree, where it is true.
      no: operands -> tree of the same shapes and dtypes.
      *operands: trees of arrays.

    Returns:
      What the branch returned. A leaf is the same on all devices if the predicate and what both
      branches make of it are.

    Example:
      >>> import jax.numpy as jnp
      >>> cond(jnp.bool_(False), lambda x: x, lambda x: -x, jnp.ones(1)).tolist()
      [-1.0]
    """
    return lax.cond(predicate, *_alike(predicate, [yes, no], operands), *operands)


def switch(index: jax.Array, branches: Sequence[Callable[..., T]], *operands: Any) -> T:
    """`lax.switch` whose branches may differ in what is the same on all devices.

    Args:
      index: int32 scalar.
      branches: operands -> tree, of the same shapes and dtypes each.
      *operands: trees of arrays.

    Returns:
      As for `cond`.

    Example:
      >>> import jax.numpy as jnp
      >>> switch(jnp.int32(1), [lambda x: x, lambda x: -x], jnp.ones(1)).tolist()
      [-1.0]
    """
    return lax.switch(index, _alike(index, branches, operands), *operands)


def while_loop(goes_on: Callable[[T], jax.Array], step: Callable[[T], T], start: T) -> T:
    """`lax.while_loop` that may begin with what is the same on all devices.

    Args:
      goes_on: state -> bool scalar.
      step: state -> next state.
      start: tree of arrays.

    Returns:
      The last state. If a leaf of it differs between devices, all of it is said to.

    Example:
      >>> import jax.numpy as jnp
      >>> int(while_loop(lambda n: n < 100, lambda n: 2 * n, jnp.int32(3)))
      192
    """
    if not _in_shard_map():
        return lax.while_loop(goes_on, step, start)
    goes_on, step = _traced_once(goes_on), _traced_once(step)
    axes = axes_of(start, jax.eval_shape(goes_on, start), jax.eval_shape(step, start))
    return lax.while_loop(goes_on, lambda state: over(axes, step(state)), over(axes, start))


def _alike(
    index: jax.Array, branches: Sequence[Callable[..., T]], operands: Any
) -> list[Callable[..., T]]:
    """The branches with results of equal types."""
    if not _in_shard_map():
        return list(branches)
    branches = [_traced_once(branch) for branch in branches]
    results = [jax.eval_shape(branch, *operands) for branch in branches]
    # Devices that take different branches get different results, whatever these are made of.
    axes = jax.tree.map(lambda *leaves: axes_of(index, *leaves), *results)

    def cast(branch: Callable[..., T]) -> Callable[..., T]:
        return lambda *operands: jax.tree.map(
            lambda leaf, axes: over(axes, leaf), branch(*operands), axes
        )

    return [cast(branch) for branch in branches]


def _traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that may be asked for its types first: nested branches would double the work each time."""
    # A new function each time, for `jit` to know from others: a bound method may equal an older one.
    return jax.jit(lambda *operands: function(*operands), inline=True)


def _in_shard_map() -> bool:
    return bool(jax.sharding.get_abstract_mesh().manual_axes)
