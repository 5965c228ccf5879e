"""Random-k: entries that a key chooses, the same on all workers."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import collectives
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import Aggregate, LeafCompressor, worker_mean
from sparsetrain.compress.density import Density, capacity, check, count_at
from sparsetrain.payload import AgreedSparse, Payload


@dataclasses.dataclass(frozen=True, eq=False)
class RandomK(LeafCompressor):
    """See `random_k`."""

    density: Density
    key: Any = None
    unbiased: bool = False

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        flat = u.reshape(-1)
        slots = capacity(self.density, flat.size)
        count = count_at(self.density, flat.size, step)
        # The k largest of n uniform draws are k positions of which all sets are equally likely.
        draws = jax.random.uniform(key, flat.shape, jnp.float32)
        drawn = entries.largest(draws, slots, count)
        values = flat.at[drawn.indices].get(mode="fill", fill_value=0, unique_indices=True)
        if self.unbiased:
            values = values * (flat.size / count)
        return AgreedSparse(drawn.indices, drawn.used, u.shape, None, values=values), state

    def aggregate_leaf(self, payload: Any, u: jax.Array, state: Any, axis_name: Any) -> Aggregate:
        del u
        # Positions agree, so only the K values move.
        mean = payload.scattered(worker_mean(payload.values, axis_name))
        return Aggregate(mean, payload.to_dense(), state)

    def moved_bytes(self, payloads: Any, workers: int) -> int:
        """Values alone, in a ring."""
        return collectives.ring_bytes(collectives.pair_bytes(payloads)[1], workers)


def random_k(density: Density, key: Any, unbiased: bool = False) -> RandomK:
    """k entries of every tensor, drawn uniformly by a key that all workers share.

        C(u) = u at k random positions, else 0               (a factor n / k before it if unbiased)

    Args:
      density: fraction sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.
      key: a typed JAX key, the same on all workers; every tensor and step draws its own positions.
      unbiased: whether values are scaled by n / k, for use with `no_memory()`: E C(u) = u, with
        variance (n / k - 1) ||u||^2. Left as they are, they need error feedback: a contraction in
        expectation, delta = k / n.

    Returns:
      A compressor. All-reducible: positions agree, so k values are summed, and no positions are
      sent.

    Raises:
      ValueError: density out of range or a plain function.

    Reference: Stich et al., Sparsified SGD with Memory (arXiv 1809.07599); Wangni et al. (arXiv
    1710.09854).

    Example:
      >>> compressor = random_k(0.5, jax.random.key(0), unbiased=True)
      >>> u = jnp.ones(4)
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> sorted(payload.to_dense().tolist()), int(payload.payload_bits())
      ([0.0, 0.0, 2.0, 2.0], 64)
    """
    check(density)
    return RandomK(density, key, unbiased)
