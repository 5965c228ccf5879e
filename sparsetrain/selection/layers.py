"""All layers in a form that few kernels read, whatever their number.

A model has hundreds of small leaves, and XLA compiles every operation on each of them. So the small
ones are laid out as rows of one matrix, read by one kernel; only the large ones, which hold nearly
all entries, are read where they lie, and only if the question is about them.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sparsetrain import varying
from sparsetrain.kernels.count_above import count_above
from sparsetrain.kernels.pattern import magnitude_patterns, pattern_dtype
from sparsetrain.selection import shards
from sparsetrain.selection.shards import AxisName

LARGE = 1 << 17  # entries from which a leaf is read where it lies
ROW = 1024


@dataclasses.dataclass(frozen=True)
class Layers:
    """Leaves in a form that few kernels read.

    Attributes:
      leaves: L flat floating arrays, none of them empty.
      large: numbers of those read where they lie.
      rows: [R, 1024] patterns of the others, leaf after leaf; -1 behind the end of each.
      owner: [R] number of the leaf that a row belongs to, rising.
      axis_name: of the shards, if each leaf is one shard of a layer; what is counted is then counted
        over all of them.
    """

    leaves: tuple[jax.Array, ...]
    large: tuple[int, ...]
    rows: jax.Array
    owner: np.ndarray
    axis_name: AxisName = None

    @property
    def sizes(self) -> jax.Array:
        """[L] int32, entries of each layer, in all shards."""
        number = shards.number(self.axis_name)
        return jnp.array([number * leaf.shape[0] for leaf in self.leaves], jnp.int32)

    def everywhere(
        self,
        of_rows: Callable[[jax.Array], jax.Array],
        of_leaf: Callable[[int, jax.Array], jax.Array],
        otherwise: jax.Array,
        is_asked: jax.Array,
    ) -> jax.Array:
        """A number, or several, for every leaf.

        Args:
          of_rows: rows -> results [L, ...], of small leaves.
          of_leaf: number of a large leaf, its entries -> result [...].
          otherwise: [...], result of a large leaf that is not asked for.
          is_asked: [L] bool; large leaves that are not are not read. The results of small ones come
            with those of the others.

        Returns:
          [L, ...].
        """
        found = of_rows(self.rows)
        if not self.large:
            return found

        def skip(leaf: jax.Array) -> jax.Array:
            return otherwise

        whole = [
            varying.cond(is_asked[i], functools.partial(of_leaf, i), skip, self.leaves[i])
            for i in self.large
        ]
        return found.at[jnp.array(self.large, jnp.int32)].set(jnp.stack(whole))


def arrange(leaves: Sequence[jax.Array], axis_name: AxisName = None) -> Layers:
    """The leaves as `Layers`.

    Args:
      leaves: flat floating arrays, none of them empty; float64 may not be mixed with others.
      axis_name: mesh axes over which every leaf is split, inside `shard_map`.

    Raises:
      ValueError: float64 that does not fit.

    Example:
      >>> layers = arrange([jnp.ones(1500), jnp.ones(LARGE), jnp.ones(3)])
      >>> layers.large, layers.rows.shape, layers.owner.tolist()
      ((1,), (3, 1024), [0, 0, 2])
    """
    dtype = pattern_dtype(*leaves)
    pieces, owner = [], []
    for i, leaf in enumerate(leaves):
        if leaf.shape[0] < LARGE:
            count = -(-leaf.shape[0] // ROW)
            pieces.append(magnitude_patterns(leaf))
            pieces.append(jnp.full((count * ROW - leaf.shape[0],), -1, dtype))
            owner += [i] * count
    flat = jnp.concatenate(pieces) if pieces else jnp.zeros((0,), dtype)
    large = tuple(i for i, leaf in enumerate(leaves) if leaf.shape[0] >= LARGE)
    rows, owners = flat.reshape(-1, ROW), np.array(owner, np.int32)
    return Layers(tuple(leaves), large, rows, owners, axis_name)


def counts(layers: Layers, thresholds: jax.Array, is_asked: jax.Array) -> jax.Array:
    """How many magnitudes of each layer reach thresholds of its own, in all shards.

    Args:
      layers: the leaves.
      thresholds: [L, T] patterns.
      is_asked: [L] bool; the counts of other leaves may mean nothing.

    Returns:
      [L, T] int32.

    Example:
      >>> thresholds = jnp.tile(magnitude_patterns(jnp.array([2.0])), (2, 5))
      >>> layers = arrange([jnp.array([1.0, -2.0]), jnp.array([3.0, 2.0, 0.0])])
      >>> counts(layers, thresholds, jnp.ones(2, bool))[:, 0].tolist()
      [1, 2]
    """
    # Without the barrier XLA may compute all patterns ahead of a loop, into fresh memory.
    thresholds, rows = lax.optimization_barrier((thresholds, layers.rows))

    def of_rows(rows: jax.Array) -> jax.Array:
        each = jax.vmap(functools.partial(count_above, implementation="xla"))
        found = each(rows, thresholds[layers.owner])
        return by_leaf(jax.ops.segment_sum, found, layers)

    def of_leaf(i: int, leaf: jax.Array) -> jax.Array:
        return count_above(leaf, thresholds[i])

    layers = dataclasses.replace(layers, rows=rows)
    found = layers.everywhere(
        of_rows, of_leaf, jnp.zeros(thresholds.shape[1:], jnp.int32), is_asked
    )
    return shards.total(found, layers.axis_name)


def by_leaf(reduce: Callable[..., jax.Array], of_rows: jax.Array, layers: Layers) -> jax.Array:
    """Results of rows [R, ...] joined to results of leaves [L, ...] by a `jax.ops.segment_...`."""
    return reduce(of_rows, layers.owner, len(layers.leaves), indices_are_sorted=True)
