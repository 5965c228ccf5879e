"""Compact storage: of a leaf that is sparse in this phase, values and indices are all that exists.

        compact:  v = w[i],  m_v = m[i] for every moment m        i: positions of the mask's ones
        expand:   w = 0,  w[i] = v

The expansion is linear and its transpose is the gathering, so that autodiff hands back gradients of
the values alone. What a mask says is in the indices, or in nothing at all where a leaf is dense:
masks are not stored.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain import pretty, tree
from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.masks.wrapper import MaskState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Compact:
    """Parameters and optimizer state of a phase; a pytree.

    Attributes:
      params: the parameters' tree; [K] values in the place of a leaf that is sparse.
      state: the wrapper's, without masks; parts shaped like the parameters hold [K] values too.
      indices: '/'-joined path of every sparse leaf -> [K] int32, rising flat positions.
      shapes: (path, shape) of all leaves that have a mask, those that are dense now included.
    """

    params: Any
    state: MaskState
    indices: dict[str, jax.Array]
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = dataclasses.field(metadata={"static": True})

    def _facts(self) -> dict[str, Any]:
        sizes = {path: math.prod(shape) for path, shape in self.shapes}
        kept = {
            path: self.indices[path].size if path in self.indices else sizes[path] for path in sizes
        }
        return {"stored": {path: pretty.part(kept[path], sizes[path]) for path in sizes}}

    __repr__ = pretty.line
    __treescope_repr__ = pretty.scope


def compact(params: Any, state: Any) -> Compact:
    """Drops what is masked: to be called outside `jit`, since it fixes shapes.

        v = w[i],    i = positions of the mask's ones

    Leaves without a mask, or with nothing but ones in it, are not touched and not copied.

    Args:
      params: tree of parameters, zero where they are masked.
      state: of `grow_and_prune` or another wrapper of this package, not of a chain around it.

    Returns:
      A `Compact`. With Adam it takes 12 bytes a dense float32 weight and 16 a kept one, so
      dense share + 4/3 density x the rest of what dense training holds.

    Raises:
      ValueError: a state that is not the wrapper's own; masked weights that are not zero; a leaf of
        2^31 entries.

    Differs from the paper:
      1. It claims less memory and says of no way to it; this one is ours. What the optimizer
         remembers of masked weights is dropped, and `expand` puts zeros there: nothing is lost if
         it never saw a gradient of them, or starts anew before they come back.

    Reference: Ma et al., GaP (arXiv 2106.09857).

    Example:
      >>> import optax
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[0.0, -3.0], [2.0, 0.0]])}
      >>> tx = masks.static(optax.sgd(0.1, momentum=0.9), 0.5, scores=params)
      >>> small = masks.compact(params, tx.init(params))
      >>> small.params["kernel"].tolist(), small.indices["kernel"].tolist()
      ([-3.0, 2.0], [1, 2])
      >>> [moment.shape for moment in jax.tree.leaves(small.state.inner)]
      [(2,)]
    """
    if not isinstance(state, MaskState):
        raise ValueError(
            f"state: compact needs the state of the mask wrapper itself, not {type(state).__name__}; "
            "put what stands around the wrapper inside it"
        )
    leaves = leaves_by_path(params)
    indices = {}
    for path, mask in state.masks.items():
        live = np.asarray(mask).reshape(-1)
        if live.all():
            continue
        if live.size > np.iinfo(np.int32).max:
            raise ValueError(f"{path}: {live.size} entries are too many for int32 positions")
        found = jnp.asarray(np.flatnonzero(live), jnp.int32)
        leaf = leaves[path]
        if int(jnp.count_nonzero(leaf)) != int(jnp.count_nonzero(gathered(leaf, found))):
            raise ValueError(
                f"{path}: masked weights are not zero; call params = masks.apply(params, state) first"
            )
        indices[path] = found

    def of_node(_: str, node: Any) -> Any:
        return at_places(gathered, node, indices)

    inner, fine_tune = tree.map_like(of_node, (state.inner, state.fine_tune), params)
    return Compact(
        of_node("", params),
        state._replace(masks={}, inner=inner, fine_tune=fine_tune),
        indices,
        tuple((path, leaves[path].shape) for path in state.masks),
    )


def expand(compact: Compact) -> tuple[Any, MaskState]:
    """Brings back parameters and state as the wrapper knows them.

        w = 0,    w[i] = v

    Args:
      compact: of `masks.compact`, or of updates since.

    Returns:
      (params, state), masks included; live weights and their moments to the bit. Dense leaves are
      the same arrays.

    Example:
      >>> import optax
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[0.0, -3.0], [2.0, 0.0]])}
      >>> state = masks.static(optax.sgd(0.1), 0.5, scores=params).init(params)
      >>> params, state = masks.expand(masks.compact(params, state))
      >>> params["kernel"].tolist()
      [[0.0, -3.0], [2.0, 0.0]]
      >>> state.masks["kernel"].tolist()
      [[False, True], [True, False]]
    """

    def of_node(_: str, node: Any) -> Any:
        return expand_params(node, compact)

    held = (compact.state.inner, compact.state.fine_tune)
    inner, fine_tune = tree.map_like(of_node, held, compact.params)
    masks = {}
    for path, shape in compact.shapes:
        found = compact.indices.get(path)
        if found is None:
            masks[path] = jnp.ones(shape, bool)
        else:
            masks[path] = scattered(jnp.ones(found.shape, bool), found, shape)
    state = compact.state._replace(masks=masks, inner=inner, fine_tune=fine_tune)
    return expand_params(compact.params, compact), state


def expand_params(params: Any, compact: Compact) -> Any:
    """The whole parameters, for a forward pass; its gradient is that of the values.

        w = 0,  w[i] = v        dL/dv = (dL/dw)[i]

    Args:
      params: tree like `compact.params`, of which it is differentiated.
      compact: says where the values belong.

    Returns:
      The parameters' tree with leaves of their own shapes.

    Example:
      >>> import optax
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[0.0, -3.0], [2.0, 0.0]])}
      >>> small = masks.compact(params, masks.static(optax.sgd(0.1), 0.5, scores=params).init(params))
      >>> loss = lambda values: jnp.sum(jnp.square(masks.expand_params(values, small)["kernel"]))
      >>> jax.grad(loss)(small.params)["kernel"].tolist()
      [-6.0, 4.0]
    """
    shapes = dict(compact.shapes)
    places = {path: (found, shapes[path]) for path, found in compact.indices.items()}
    return at_places(lambda values, place: scattered(values, *place), params, places)


def at_places(of_leaf: Callable[[Any, Any], Any], node: Any, places: dict[str, Any]) -> Any:
    """Applies (leaf, its place) -> leaf where a path has a place; other leaves stay.

    Example:
      >>> at_places(lambda leaf, place: leaf + place, {"a": 1, "b": 2}, {"b": 10})
      {'a': 1, 'b': 12}
    """

    def at(path: Any, leaf: Any) -> Any:
        place = places.get(tree.join(path))
        return leaf if place is None else of_leaf(leaf, place)

    return jax.tree_util.tree_map_with_path(at, node)


# What is promised of the indices: no check, no clamping, and no addition in the scatter's transpose.
_PROMISES: Any = {
    "mode": "promise_in_bounds",
    "indices_are_sorted": True,
    "unique_indices": True,
}


@jax.jit
def gathered(leaf: jax.Array, indices: jax.Array) -> jax.Array:
    """[K] values of an array at rising flat positions [K].

    Example:
      >>> gathered(jnp.array([[5.0, 6.0], [7.0, 8.0]]), jnp.array([1, 3])).tolist()
      [6.0, 8.0]
    """
    return leaf.reshape(-1).at[indices].get(**_PROMISES)


@functools.partial(jax.jit, static_argnames="shape")
def scattered(values: jax.Array, indices: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Zeros of a shape with values [K] at rising flat positions [K].

    Example:
      >>> scattered(jnp.array([6.0, 8.0]), jnp.array([1, 3]), (2, 2)).tolist()
      [[0.0, 6.0], [0.0, 8.0]]
    """
    flat = jnp.zeros(math.prod(shape), values.dtype)
    return flat.at[indices].set(values, **_PROMISES).reshape(shape)
