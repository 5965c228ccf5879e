"""Hard threshold: whatever exceeds a fixed magnitude."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import numerics
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.compress.density import capacity
from sparsetrain.payload import Payload, Sparse


def above(u: jax.Array, threshold: jax.Array | float, slots: int) -> Payload:
    """Payload of the entries of one tensor at or above a threshold; the largest if they exceed the slots."""
    flat = u.reshape(-1)
    kept = entries.largest(flat, slots, slots)
    is_kept = (jnp.abs(kept.values) >= threshold) & (kept.values != 0)
    kept = entries.rising(flat, kept.indices, is_kept)
    return Sparse(kept.indices, kept.used, u.shape, None, values=kept.values)


@dataclasses.dataclass(frozen=True)
class HardThreshold(LeafCompressor):
    """See `hard_threshold`."""

    threshold: float
    largest: float

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step, key
        return above(u, self.threshold, capacity(self.largest, u.size)), state


def hard_threshold(threshold: float, largest: float = 0.1) -> HardThreshold:
    """Every entry whose magnitude reaches a fixed threshold, in all tensors the same.

        C(u) = u where |u| >= threshold, else 0

    With error feedback nothing is lost: what is too small grows until it is sent.

    Args:
      threshold: in units of the gradient, > 0.
      largest: density for which the payload has room, 0 < largest <= 1; where more entries exceed
        the threshold, the largest of them are sent and the others remembered.

    Returns:
      A compressor with a moving count.

    Raises:
      ValueError: an argument out of range.

    Reference: Sahu et al., Rethinking gradient sparsification as total error minimization (arXiv
    2108.00951), unverified.

    Example:
      >>> compressor = hard_threshold(1.0, largest=1.0)
      >>> u = jnp.array([1.0, -3.0, 0.5])
      >>> compressor.compress(u, compressor.init(u))[0].to_dense().tolist()
      [1.0, -3.0, 0.0]
    """
    if not threshold > 0:
        raise ValueError(f"threshold={threshold}: must be positive, in units of the gradient")
    return HardThreshold(float(threshold), numerics.check_density(largest, "largest"))
