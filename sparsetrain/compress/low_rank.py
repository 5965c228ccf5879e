"""PowerSGD: a matrix as the product of two thin ones, by one step of power iteration a round."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives, numerics, varying
from sparsetrain.compress.compressor import (
    Aggregate,
    LeafCompressor,
    LeafwiseState,
    worker_mean,
)
from sparsetrain.payload import Dense, DenseAtFirst, LowRank, Payload, is_payload


class Factor(NamedTuple):
    """State of one compressed tensor."""

    q: jax.Array  # [m, r], where the next power iteration starts; the same on all workers


@dataclasses.dataclass(frozen=True, eq=False)
class PowerCompressor(LeafCompressor):
    """See `low_rank`."""

    rank: int
    start_after: int = 0
    min_compression_rate: float = 2.0
    key: Any = None

    def init(self, params: Any) -> LeafwiseState:
        state = super().init(params)
        leaves = []
        for number, leaf in enumerate(jax.tree.leaves(params)):
            shape = factored(leaf.shape, self.rank, self.min_compression_rate)
            if shape is None:
                leaves.append(state.leaves[number])
                continue
            _, m, r = shape
            dtype = numerics.accumulator_dtype(leaf.dtype)
            key = jax.random.fold_in(self.key, number)
            leaves.append(Factor(jax.random.normal(key, (m, r), dtype)))
        return LeafwiseState(state.step, tuple(leaves))

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del key
        if not isinstance(state, Factor):
            return Dense(u), state
        # What this worker alone would say; of the same size as its two messages of a round.
        p, q = power_step(matrix_of(u, state), state, None)
        factors = LowRank(p, q, u.shape)
        if self.start_after == 0:
            return factors, state
        return DenseAtFirst(Dense(u), factors, step < self.start_after), state

    def aggregate_leaf(self, payload: Any, u: jax.Array, state: Any, axis_name: Any) -> Aggregate:
        if not isinstance(state, Factor):
            mean = collectives.mean(payload, axis_name)
            return Aggregate(mean, payload.to_dense(), state)

        def whole() -> Aggregate:
            return Aggregate(worker_mean(u, axis_name), u, state)

        def in_factors() -> Aggregate:
            p, q = power_step(matrix_of(u, state), state, axis_name)
            mean = (p @ q.T).reshape(u.shape)
            # A column that the matrices had no use for would be zero for ever.
            kept = jnp.where(jnp.any(q != 0, axis=0, keepdims=True), q, state.q)
            return Aggregate(mean, mean, Factor(kept))

        if self.start_after == 0:
            return in_factors()
        is_dense = payload.is_dense
        if axis_name is not None:
            # The same on all workers, and known to be: else vmap would run both branches.
            is_dense = lax.pmax(is_dense.astype(jnp.int32), axis_name) > 0
        return varying.cond(is_dense, whole, in_factors)

    def moved_bytes(self, payloads: Any, workers: int) -> int:
        """Two factors, or the whole tensor, in a ring."""
        each = jax.tree.leaves(payloads, is_leaf=is_payload)
        return collectives.ring_bytes(sum(map(_held_bytes, each)), workers)


def _held_bytes(payload: Any) -> int:
    # Of the two forms of a round without factors yet the larger: which one moves is data.
    if isinstance(payload, DenseAtFirst):
        return max(_held_bytes(payload.dense), _held_bytes(payload.factors))
    return sum(leaf.nbytes for leaf in jax.tree.leaves(payload))


def factored(
    shape: tuple[int, ...], rank: int, min_compression_rate: float
) -> tuple[int, int, int] | None:
    """(n, m, r) of a tensor with n m / (r (n + m)) >= the least rate; None where it does not pay.

    Example:
      >>> factored((3, 3, 16, 64), 4, 2.0), factored((4, 4), 2, 2.0), factored((64,), 1, 2.0)
      ((144, 64, 4), None, None)
    """
    if len(shape) < 2 or 0 in shape:
        return None
    m = shape[-1]
    n = 1
    for length in shape[:-1]:
        n *= length
    r = min(rank, n, m)
    return (n, m, r) if n * m >= min_compression_rate * r * (n + m) else None


def matrix_of(u: jax.Array, state: Factor) -> jax.Array:
    """The tensor as [n, m]: its last axis, the outputs of a kernel, stays."""
    return u.reshape(-1, state.q.shape[0])


def power_step(matrix: jax.Array, state: Factor, axis_name: Any) -> tuple[jax.Array, jax.Array]:
    """One step of power iteration for the mean matrix of all workers, who exchange factors only.

        P = orthonormal columns of mean(M Q),    Q = mean(M^T P)

    Args:
      matrix: [n, m], this worker's.
      state: with Q of the previous round.
      axis_name: of the workers, or None.

    Returns:
      P [n, r] and Q [m, r]; P Q^T is the projection of the mean matrix onto the columns of P.
    """
    # Householder's QR has orthonormal columns for any finite matrix, zeros included.
    p, _ = jnp.linalg.qr(worker_mean(matrix @ state.q, axis_name))
    return p, worker_mean(matrix.T @ p, axis_name)


def low_rank(
    rank: int, *, start_after: int = 0, min_compression_rate: float = 2.0, key: Any
) -> PowerCompressor:
    """PowerSGD: the mean gradient matrix, projected onto r directions that follow it.

        P = orthonormalise(mean_i(M_i Q)),    Q <- mean_i(M_i^T P),    update = P Q^T

    Tensors become matrices [product of all axes but the last, last axis]. Biases, scales, and what
    would not shrink enough are sent whole, as `Dense`.

    Args:
      rank: r, at least 1; less for a matrix that has not so many rows or columns.
      start_after: rounds in which everything is sent whole, while gradients change fastest.
      min_compression_rate: a matrix is factored if n m / (r (n + m)) is at least that.
      key: a typed JAX key for the first Q, the same on all workers.

    Returns:
      A compressor; needs error feedback. Biased, and never longer than M. All-reducible: factors
      are averaged, in two messages a round. `accepted` is the common P Q^T, so it is the mean of
      the workers' memories that holds what was not sent. Momentum belongs behind the exchange.

    Raises:
      ValueError: an argument out of range.

    Differs from the reference code:
      1. Both factors are computed in every round; newer versions alternate between them.
      2. Columns are orthonormalised by Householder's QR and not by Gram-Schmidt with an epsilon.
      3. A column of Q that comes out zero keeps its old value.

    Reference: Vogels et al., PowerSGD (arXiv 1905.13727).

    Example:
      >>> compressor = low_rank(1, key=jax.random.key(0))
      >>> u = jnp.outer(jnp.arange(8.0), jnp.ones(8))                        # of rank one
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> bool(jnp.allclose(payload.to_dense(), u, atol=1e-5)), int(payload.payload_bits())
      (True, 512)
    """
    if rank < 1:
        raise ValueError(f"rank={rank}: must be at least 1")
    if start_after < 0:
        raise ValueError(f"start_after={start_after}: must not be negative, a number of rounds")
    if not min_compression_rate > 0:
        raise ValueError(f"min_compression_rate={min_compression_rate}: must be positive")
    return PowerCompressor(rank, start_after, min_compression_rate, key)
