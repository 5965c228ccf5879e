"""What is kept or dropped together: single weights, blocks of a matrix, or n of every m inputs."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from sparsetrain import selection


class Structure(Protocol):
    """Shape of a mask."""

    def units(self, shape: tuple[int, ...]) -> int:
        """How many units a leaf of this shape has; raises ValueError where it does not fit."""
        ...

    def scores(self, weights: jax.Array) -> jax.Array:
        """[U] score of each unit, float, at least 0."""
        ...

    def spread(self, kept: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """[U] bool -> mask of the leaf's shape."""
        ...


@dataclasses.dataclass(frozen=True)
class Unstructured:
    """Single weights, by magnitude."""

    def units(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    def scores(self, weights: jax.Array) -> jax.Array:
        return weights.reshape(-1)

    def spread(self, kept: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return kept.reshape(shape)


@dataclasses.dataclass(frozen=True)
class Block:
    """See `block`."""

    rows: int
    columns: int

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        outputs, inputs = shape[-1], math.prod(shape[:-1])
        return -(-outputs // self.rows), -(-inputs // self.columns)

    def units(self, shape: tuple[int, ...]) -> int:
        return math.prod(self._grid(shape))

    def scores(self, weights: jax.Array) -> jax.Array:
        matrix = as_matrix(jnp.abs(weights).astype(jnp.float32))
        down, across = self._grid(weights.shape)
        short = (down * self.rows - matrix.shape[0], across * self.columns - matrix.shape[1])
        padded = jnp.pad(matrix, ((0, short[0]), (0, short[1])))
        blocks = padded.reshape(down, self.rows, across, self.columns)
        return jnp.sum(blocks, axis=(1, 3)).reshape(-1)

    def spread(self, kept: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        grid = kept.reshape(self._grid(shape))
        whole = jnp.repeat(jnp.repeat(grid, self.rows, axis=0), self.columns, axis=1)
        return from_matrix(whole[: shape[-1], : math.prod(shape[:-1])], shape)


@dataclasses.dataclass(frozen=True)
class NOfM:
    """See `n_m`."""

    n: int
    m: int


def block(rows: int, columns: int) -> Block:
    """Blocks of a kernel read as a matrix [O, H * W * I], scored by their L1 norm.

    Args:
      rows: neighbouring outputs of a block.
      columns: neighbouring inputs; `block(1, 8)` is GaP's.

    Returns:
      A structure. Where blocks do not divide the matrix, it is padded with zeros, and the last
      blocks are smaller. Density is the fraction of blocks that are kept.

    Raises:
      ValueError: a size below 1.

    Reference: Ma et al., GaP (arXiv 2106.09857), appendix A.3; its code sums magnitudes per block.

    Example:
      >>> weights = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 4.0]])          # 3 inputs, 2 outputs
      >>> block(1, 2).scores(weights).tolist()
      [3.0, 0.0, 0.0, 4.0]
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"rows={rows}, columns={columns}: must both be at least 1")
    return Block(rows, columns)


def n_m(n: int, m: int) -> NOfM:
    """The n largest of every m neighbouring inputs, as sparse tensor cores want it.

    Args:
      n: weights kept of each group.
      m: weights of a group; divides H * W * I of every masked kernel.

    Returns:
      A structure; its density is n / m.

    Raises:
      ValueError: not 1 <= n < m.

    Example:
      >>> n_m(2, 4)
      NOfM(n=2, m=4)
    """
    if not 1 <= n < m:
        raise ValueError(f"n={n}, m={m}: must hold 1 <= n < m")
    return NOfM(n, m)


def named(structure: Any) -> Any:
    """The structure itself, or the one that a word names.

    Example:
      >>> named("unstructured"), named(block(1, 8))
      (Unstructured(), Block(rows=1, columns=8))
    """
    return Unstructured() if structure == "unstructured" else structure


def as_matrix(kernel: Any) -> Any:
    """[..., O] -> [O, product of the others]; of JAX or of NumPy, whose 64 bits stay.

    Example:
      >>> as_matrix(jnp.zeros((3, 3, 4, 8))).shape
      (8, 36)
    """
    return kernel.transpose(-1, *range(kernel.ndim - 1)).reshape(kernel.shape[-1], -1)


def from_matrix(matrix: Any, shape: tuple[int, ...]) -> Any:
    """The inverse of `as_matrix`.

    Example:
      >>> from_matrix(jnp.zeros((8, 36)), (3, 3, 4, 8)).shape
      (3, 3, 4, 8)
    """
    return matrix.reshape(shape[-1], *shape[:-1]).transpose(*range(1, len(shape)), 0)


def keep_largest(
    weights: Mapping[str, jax.Array], structure: Any, counts: Sequence[Any] | jax.Array
) -> dict[str, jax.Array]:
    """Masks of the largest units of each leaf.

    Args:
      weights: path -> leaf.
      structure: `Unstructured()`, `block(...)` or `n_m(...)`.
      counts: [L] units kept of each; `n_m` has its own.

    Returns:
      Path -> bool mask; ties go to the unit of lower index, NaN counts as largest.

    Example:
      >>> found = keep_largest({"w": jnp.array([[1.0, -3.0], [3.0, 0.0]])}, Unstructured(), [1])
      >>> found["w"].astype(int).tolist()
      [[0, 1], [0, 0]]
    """
    if isinstance(structure, NOfM):
        return {path: _n_of_m(leaf, structure) for path, leaf in weights.items()}
    scores = [structure.scores(leaf) for leaf in weights.values()]
    kept = selection.top_k_mask_of_each(scores, counts)
    return {
        path: structure.spread(mask, leaf.shape)
        for (path, leaf), mask in zip(weights.items(), kept, strict=True)
    }


def keep_largest_of_all(
    weights: Mapping[str, jax.Array], structure: Any, k: Any
) -> dict[str, jax.Array]:
    """Masks of the k largest units of all leaves together, under one threshold.

    Args:
      weights: path -> leaf.
      structure: `Unstructured()` or `block(...)`.
      k: units kept of all, int or int32 scalar.

    Returns:
      Path -> bool mask; ties go to the earlier leaf, then to the lower index.

    Example:
      >>> found = keep_largest_of_all({"a": jnp.ones((1, 1)), "b": 2 * jnp.ones((1, 2))}, Unstructured(), 2)
      >>> {path: mask.tolist() for path, mask in found.items()}
      {'a': [[False]], 'b': [[True, True]]}
    """
    scores = [structure.scores(leaf) for leaf in weights.values()]
    kept, _ = selection.top_k_masks(scores, k)
    return {
        path: structure.spread(mask, leaf.shape)
        for (path, leaf), mask in zip(weights.items(), kept, strict=True)
    }


def _n_of_m(weights: jax.Array, structure: NOfM) -> jax.Array:
    groups = as_matrix(weights).reshape(-1, structure.m)
    kept = selection.top_k_mask(groups, structure.n)
    return from_matrix(kept.reshape(weights.shape[-1], -1), weights.shape)
