"""Sparse Ternary Compression (STC): positions, signs and one magnitude; up to a server and down."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain.compress import entries
from sparsetrain.compress.compressor import (
    Aggregate,
    Compressor,
    LeafCompressor,
    aggregated,
    moved_among,
)
from sparsetrain.compress.density import Density, capacity, check, count_at
from sparsetrain.compress.local_steps import LocalSteps, local_steps
from sparsetrain.compress.memory import zeros
from sparsetrain.compress.top_k import code_parameter
from sparsetrain.payload import BitCount, Payload, SparseTernary, is_payload, total


@dataclasses.dataclass(frozen=True)
class SparseTernaryCompressor(LeafCompressor):
    """See `sparse_ternary`."""

    density: Density

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del key
        flat = u.reshape(-1)
        slots = capacity(self.density, flat.size)
        largest = entries.largest(flat, slots, count_at(self.density, flat.size, step))
        # Zeros were only selected for want of other entries.
        kept = entries.rising(flat, largest.indices, largest.values != 0)
        mean = jnp.sum(jnp.abs(kept.values)) / jnp.maximum(kept.used, 1)
        b = code_parameter(self.density, slots, flat.size)
        payload = SparseTernary(
            kept.indices, kept.used, u.shape, b, mean=mean, negative=kept.values < 0
        )
        return payload, state


def sparse_ternary(density: Density) -> SparseTernaryCompressor:
    """The k largest magnitudes of every tensor, all sent as their mean with their sign.

        mu = mean of the k largest |u|,    C(u) = mu sign(u) where |u| is among them, else 0

    Args:
      density: fraction of a tensor's entries that is sent, 0 < density <= 1; or `warm_up(...)`,
        `scheduled(...)`.

    Returns:
      A compressor: ||u - C(u)||^2 = ||u||^2 - k mu^2. Biased, needs error feedback. Not
      all-reducible: workers send different positions.

    Raises:
      ValueError: density out of range or a plain function.

    Differs from the paper:
      1. Exactly k entries are sent, of equal ones the lower positions; and never a zero.

    Reference: Sattler et al., Robust and Communication-Efficient Federated Learning from Non-IID
    Data (arXiv 1903.02891).

    Example:
      >>> u = jnp.array([0.5, -2.0, 0.1, 3.0, -1.5, 0.0, 1.0, -0.2])
      >>> compressor = sparse_ternary(density=0.25)
      >>> compressor.compress(u, compressor.init(u))[0].to_dense().tolist()
      [0.0, -2.5, 0.0, 2.5, 0.0, 0.0, 0.0, 0.0]
    """
    check(density)
    return SparseTernaryCompressor(density)


class BothWaysState(NamedTuple):
    """State of `both_ways`."""

    up: Any
    down: Any
    residual: Any  # R of the server, the same on all workers
    down_bits: BitCount  # payload bits of all broadcasts so far


@dataclasses.dataclass(frozen=True)
class BothWays:
    """See `both_ways`."""

    up: Compressor
    down: Compressor

    def init(self, params: Any) -> BothWaysState:
        return BothWaysState(
            self.up.init(params), self.down.init(params), zeros(params), BitCount.of(0)
        )

    def compress(self, u: Any, state: BothWaysState) -> tuple[Any, BothWaysState]:
        payloads, up = self.up.compress(u, state.up)
        return payloads, state._replace(up=up)

    def decompress(self, payloads: Any) -> Any:
        return self.up.decompress(payloads)

    def aggregate(self, payloads: Any, u: Any, state: BothWaysState, axis_name: Any) -> Aggregate:
        return self._answered(self.up.aggregate(payloads, u, state.up, axis_name), state)

    def aggregate_speakers(
        self, payloads: Any, u: Any, state: BothWaysState, axis_name: Any, speaks: jax.Array
    ) -> Aggregate:
        # The server's residual belongs to no worker: a mean over fewer must not enlarge it.
        return self._answered(aggregated(self.up, payloads, u, state.up, axis_name, speaks), state)

    @property
    def shards(self) -> Any:
        return getattr(self.up, "shards", None)

    def moved_bytes(self, payloads: Any, workers: int) -> int:
        """What goes up; the answer is computed by every worker for itself."""
        return moved_among(self.up, payloads, workers)

    def _answered(self, arrived: Aggregate, state: BothWaysState) -> Aggregate:
        # From here on all workers compute the same: each is the server.
        offered = jax.tree.map(jnp.add, state.residual, arrived.mean)
        broadcast, down = self.down.compress(offered, state.down)
        received = self.down.aggregate(broadcast, offered, down, None)
        residual = jax.tree.map(jnp.subtract, offered, received.accepted)
        sent = jax.tree.leaves(broadcast, is_leaf=is_payload)
        bits = total([state.down_bits, *(payload.payload_bits() for payload in sent)])
        new = BothWaysState(arrived.state, received.state, residual, bits)
        return Aggregate(received.mean, arrived.accepted, new)


def both_ways(up: Compressor, down: Compressor) -> BothWays:
    """Compresses what workers send, and also what comes back: the server has a residual of its own.

        U = R + mean_i C_up(u_i),    update = C_down(U),    R <- U - update

    Every worker plays the server, so no broadcast takes place; its bits are counted in the state as
    `down_bits`, apart from the ledger of what workers send.

    Args:
      up: of each worker; its memory is that of `exchange` or `local_steps`.
      down: of the server. A randomised one must not be told an axis: all workers draw alike.

    Returns:
      A compressor. Nothing is lost: sum of updates + R + mean of the workers' residuals = sum of
      the means of what was fed.

    Raises:
      TypeError: an argument that is no compressor.

    Example:
      >>> compressor = both_ways(sparse_ternary(1.0), sparse_ternary(0.5))
      >>> u = jnp.array([3.0, 3.0])
      >>> payloads, state = compressor.compress(u, compressor.init(u))
      >>> mean, accepted, state = compressor.aggregate(payloads, u, state, axis_name=None)
      >>> mean.tolist(), accepted.tolist(), state.residual.tolist()
      ([3.0, 0.0], [3.0, 3.0], [0.0, 3.0])
    """
    for name, part in (("up", up), ("down", down)):
        if not isinstance(part, Compressor):
            raise TypeError(
                f"{name}={part!r}: give one of sparsetrain.compress, such as top_k(0.01)"
            )
    return BothWays(up, down)


def stc(
    density: Density,
    inner: optax.GradientTransformation,
    every: int = 1,
    axis_name: Any = None,
    **options: Any,
) -> LocalSteps:
    """STC as a recipe: local steps, and ternary messages up and down, each with a residual.

        client: u_i = R_i + (inner_n(W_i) - W),    s_i = STC(u_i),    R_i = u_i - s_i
        server: U = R + mean_i s_i,    S = STC(U),    R = U - S,    W <- W + S

    Args:
      density: of both directions, as for `sparse_ternary`.
      inner: the local optimizer.
      every: local steps between two exchanges.
      axis_name: of the workers, or None for one.
      **options: as for `local_steps`.

    Returns:
      `local_steps(inner, every, both_ways(sparse_ternary(density), sparse_ternary(density)), ...)`.

    Differs from the paper:
      1. Clients that were away do not exist: all take part in every round.

    Reference: Sattler et al. (arXiv 1903.02891).

    Example:
      >>> tx = stc(0.01, optax.sgd(0.1), every=10)
    """
    compressor = both_ways(sparse_ternary(density), sparse_ternary(density))
    return local_steps(inner, every, compressor, axis_name=axis_name, **options)
