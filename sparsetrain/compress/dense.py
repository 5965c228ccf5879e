"""Nothing left out: what compressed exchanges are compared with."""

import dataclasses
from typing import Any

import jax

from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.payload import Dense, Payload


@dataclasses.dataclass(frozen=True)
class Whole(LeafCompressor):
    """See `dense`."""

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step, key
        return Dense(u), state


def dense() -> Whole:
    """Every tensor whole: data-parallel training, and with `local_steps` FedAvg.

        C(u) = u

    Returns:
      A compressor; unbiased, exact, all-reducible. Nothing is left for a memory.

    Reference: McMahan et al., FedAvg (arXiv 1602.05629).

    Example:
      >>> import jax.numpy as jnp
      >>> compressor = dense()
      >>> payload, _ = compressor.compress(jnp.array([3.0, 1.0]), compressor.init(jnp.zeros(2)))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())
      ([3.0, 1.0], 64)
    """
    return Whole()
