"""Signs: one bit an entry. Majority vote (signSGD, Signum), and scaled signs for error feedback."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives, numerics
from sparsetrain.compress.compressor import Aggregate, LeafCompressor
from sparsetrain.payload import Payload, Sign


@dataclasses.dataclass(frozen=True)
class SignVote(LeafCompressor):
    """See `sign`."""

    momentum: float | None = None
    # The result is a vote of those who spoke, not a mean.
    averages: ClassVar[bool] = False

    def init_leaf(self, leaf: jax.Array) -> Any:
        if self.momentum is None:
            return ()
        return jnp.zeros(leaf.shape, numerics.accumulator_dtype(leaf.dtype))

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step, key
        if self.momentum is not None:
            u = state = self.momentum * state + (1.0 - self.momentum) * u
        # A tensor that is zero all over has no direction: it abstains.
        one = jnp.any(u != 0).astype(u.dtype)
        return Sign.pack(u >= 0, -one, one, 0), state

    def aggregate_leaf(self, payload: Any, u: jax.Array, state: Any, axis_name: Any) -> Aggregate:
        """What most workers voted for; +1 where they are tied, 0 where nobody votes."""
        del u
        vote = payload.to_dense()
        if axis_name is None:
            return Aggregate(vote, vote, state)
        voters = lax.psum(payload.high, axis_name)
        votes = collectives.mean(payload, axis_name)
        one = (voters > 0).astype(vote.dtype)
        return Aggregate(jnp.where(votes >= 0, one, -one), vote, state)


def sign(momentum: float | None = None) -> SignVote:
    """signSGD with majority vote; with a momentum, Signum.

        send sign(g),    update = sign(sum over workers of sign(g))
        Signum:          m <- b m + (1 - b) g,    send sign(m)

    sign(0) = +1, in the vote too, so that one bit suffices in both directions. Only a tensor that
    is zero in all entries sends no vote.

    Args:
      momentum: b of Signum, 0 <= b < 1; None for plain signs.

    Returns:
      A compressor for `exchange(..., no_memory())`. Biased: all magnitudes are lost, so the
      learning rate alone sets the length of a step. All-reducible: votes are summed as integers.

    Raises:
      ValueError: momentum outside [0, 1).

    Differs from the paper:
      1. A tied vote counts as +1 and not as 0.
      2. Nothing is voted for a tensor of zeros.

    Reference: Bernstein et al., signSGD (arXiv 1802.04434) and signSGD with majority vote (arXiv
    1810.05291).

    Example:
      >>> compressor = sign()
      >>> u = jnp.array([0.5, -2.0, 0.0])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())
      ([1.0, -1.0, 1.0], 3)
    """
    if momentum is not None and not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum={momentum}: must lie in [0, 1), or be None for plain signs")
    return SignVote(momentum)


@dataclasses.dataclass(frozen=True)
class ScaledSign(LeafCompressor):
    """See `scaled_sign`."""

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step, key
        scale = jnp.mean(jnp.abs(u))
        return Sign.pack(u >= 0, -scale, scale, 1), state


def scaled_sign() -> ScaledSign:
    """Signs times the mean magnitude, for error feedback: EF-signSGD.

        C(p) = (||p||_1 / d) sign(p),    sign(0) = +1

    Returns:
      A compressor. Biased, a contraction with delta = ||p||_1^2 / (d ||p||^2), which is at least
      1 / d; needs error feedback. Not all-reducible: every worker has its own scale.

    Reference: Karimireddy et al., Error Feedback Fixes SignSGD (arXiv 1901.09847).

    Example:
      >>> compressor = scaled_sign()
      >>> u = jnp.array([0.5, -2.0, 0.5])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())
      ([1.0, -1.0, 1.0], 35)
    """
    return ScaledSign()
