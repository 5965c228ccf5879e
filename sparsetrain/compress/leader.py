"""ScaleCom: workers take turns to choose positions for all (CLT-k); a low-pass memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import Aggregate, LeafCompressor, accumulated, worker_mean
from sparsetrain.compress.density import Density, capacity, check, count_at
from sparsetrain.compress.memory import ResidualState, zeros
from sparsetrain.compress.top_k import code_parameter
from sparsetrain.payload import Payload, Sparse


@dataclasses.dataclass(frozen=True)
class LeaderTopK(LeafCompressor):
    """See `leader_top_k`."""

    density: Density

    def init_leaf(self, leaf: jax.Array) -> jax.Array:
        del leaf
        return jnp.zeros((), jnp.int32)  # The round, which decides whose turn it is.

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        """What this worker would choose: only the leader's choice is used."""
        del state, key
        flat = u.reshape(-1)
        slots = capacity(self.density, flat.size)
        kept = entries.largest(flat, slots, count_at(self.density, flat.size, step))
        b = code_parameter(self.density, slots, flat.size)
        return Sparse(kept.indices, kept.used, u.shape, b, values=kept.values), step

    def aggregate_leaf(self, payload: Any, u: jax.Array, state: Any, axis_name: Any) -> Aggregate:
        indices = payload.indices
        if axis_name is not None:
            leads = lax.axis_index(axis_name) == state % lax.psum(1, axis_name)
            indices = lax.psum(jnp.where(leads, indices, 0), axis_name)

        def scattered(values: jax.Array) -> jax.Array:
            flat = jnp.zeros((u.size,), u.dtype)
            flat = flat.at[indices].set(values, mode="drop", unique_indices=True)
            return flat.reshape(u.shape)

        own = u.reshape(-1).at[indices].get(mode="fill", fill_value=0, unique_indices=True)
        return Aggregate(scattered(worker_mean(own, axis_name)), scattered(own), state)

    def moved_bytes(self, payloads: Any, workers: int) -> int:
        """The leader's positions, by a sum, and everybody's values there, in a ring."""
        return collectives.ring_bytes(sum(collectives.pair_bytes(payloads)), workers)


def leader_top_k(density: Density) -> LeaderTopK:
    """Cyclic local top-k (CLT-k): in round t the worker t mod W chooses the positions for all.

        I = positions of the k largest |u| of worker t mod W,    C(u_i) = u_i on I, else 0

    With large batches and error feedback the workers' u are alike, so that one may choose for all.
    An all-reduce of k values is all that moves besides the broadcast of I: the cost does not grow
    with the number of workers, as an all-gather's does.

    Args:
      density: fraction sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.

    Returns:
      A compressor for `low_pass()` or `residual()`. Biased; a contraction for the leader, not
      necessarily for the others. All-reducible. Payloads count the positions at every worker,
      although only the leader sends them. A round led by a worker that has nothing finite to say
      sends nothing.

    Raises:
      ValueError: density out of range or a plain function.

    Reference: Chen et al., ScaleCom (arXiv 2104.11125).

    Example:
      >>> compressor = leader_top_k(0.5)
      >>> def one_round(u):
      ...     payload, state = compressor.compress(u, compressor.init(u))
      ...     return compressor.aggregate(payload, u, state, "workers").mean
      >>> u = jnp.array([[3.0, 1.0], [2.0, 4.0]])
      >>> jax.vmap(one_round, axis_name="workers")(u).tolist()          # the first one leads
      [[2.5, 0.0], [2.5, 0.0]]
    """
    check(density)
    return LeaderTopK(density)


@dataclasses.dataclass(frozen=True)
class LowPass:
    """See `low_pass`."""

    beta: float

    def init(self, params: Any) -> ResidualState:
        return ResidualState(zeros(params))

    def compensate(self, gradients: Any, state: ResidualState) -> tuple[Any, ResidualState]:
        return jax.tree.map(jnp.add, state.residual, accumulated(gradients)), state

    def update(self, u: Any, accepted: Any, payloads: Any, state: ResidualState) -> ResidualState:
        del payloads
        return ResidualState(
            jax.tree.map(
                lambda m, u, s: (1.0 - self.beta) * m + self.beta * (u - s),
                state.residual,
                u,
                accepted,
            )
        )


def low_pass(beta: float = 0.1) -> LowPass:
    """Error feedback through a low-pass filter, which keeps the memories of workers alike.

        u = m + g,    m <- m + beta (g - accepted) = (1 - beta) m + beta (u - accepted)

    Args:
      beta: weight of what is new, 0 < beta <= 1; 1 is `residual()`. About .1 with large batches.

    Returns:
      A memory for `exchange` or `local_steps`. Below 1 it does not conserve: part of what was held
      back is forgotten, and part of what was sent is sent again.

    Raises:
      ValueError: beta outside (0, 1].

    Reference: Chen et al., ScaleCom (arXiv 2104.11125).

    Example:
      >>> memory = low_pass(0.5)
      >>> u, state = memory.compensate(jnp.array([2.0, 1.0]), memory.init(jnp.zeros(2)))
      >>> memory.update(u, jnp.array([2.0, 0.0]), None, state).residual.tolist()
      [0.0, 0.5]
    """
    if not 0.0 < beta <= 1.0:
        raise ValueError(f"beta={beta}: must lie in (0, 1]; 1 is residual(), for 0 use no_memory()")
    return LowPass(beta)
