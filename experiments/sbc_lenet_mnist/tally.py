"""A compressor that also keeps account tensor by tensor, and of what it was last given."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain.compress import Aggregate, Compressor
from sparsetrain.payload import BitCount, Dense, SparseTree, is_payload


class TallyState(NamedTuple):
    """State of `Tally`; L is the number of payloads in a message.

    Attributes:
      inner: of the compressor.
      bits: payload bits so far, [L].
      sent: entries sent so far, [L].
      u: what the last message was made of, a tree like the parameters.
      accepted: what of it was sent.
    """

    inner: Any
    bits: BitCount
    sent: BitCount
    u: Any
    accepted: Any


@dataclasses.dataclass(frozen=True)
class Tally:
    """Another compressor, with its bits counted for every payload by itself."""

    compressor: Compressor

    def init(self, params: Any) -> TallyState:
        state = self.compressor.init(params)
        message, _ = jax.eval_shape(self.compressor.compress, params, state)
        nothing = BitCount.of(jnp.zeros(len(payloads_of(message)), jnp.int32))
        zeros = jax.tree.map(jnp.zeros_like, params)
        return TallyState(state, nothing, nothing, zeros, zeros)

    def compress(self, u: Any, state: TallyState) -> tuple[Any, TallyState]:
        message, inner = self.compressor.compress(u, state.inner)
        payloads = payloads_of(message)
        bits = [payload.payload_bits() for payload in payloads]
        sent = [BitCount.of(entries_of(payload)) for payload in payloads]
        new = state._replace(
            inner=inner,
            bits=state.bits.plus(stacked(bits)),
            sent=state.sent.plus(stacked(sent)),
            u=u,
        )
        return message, new

    def decompress(self, payloads: Any) -> Any:
        return self.compressor.decompress(payloads)

    def aggregate(self, payloads: Any, u: Any, state: TallyState, axis_name: Any) -> Aggregate:
        done = self.compressor.aggregate(payloads, u, state.inner, axis_name)
        return done._replace(state=state._replace(inner=done.state, accepted=done.accepted))


def payloads_of(message: Any) -> list[Any]:
    """The payloads of a message, in order."""
    return jax.tree.leaves(message, is_leaf=is_payload)


def entries_of(payload: Any) -> jax.Array | int:
    """How many entries a payload carries."""
    if isinstance(payload, Dense):
        return payload.values.size
    return jnp.sum(payload.counts) if isinstance(payload, SparseTree) else payload.count


def stacked(counts: list[BitCount]) -> BitCount:
    """Scalar counts as one count [L]."""
    return jax.tree.map(lambda *words: jnp.stack(words), *counts)


def find(state: Any) -> TallyState:
    """The one tally inside an optimizer's state."""
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, TallyState))
    (found,) = (node for node in nodes if isinstance(node, TallyState))
    return found


def whole_numbers(count: BitCount) -> list[int]:
    """Exact Python integers of a count [W, L], one a payload: the mean over the workers, rounded."""
    workers = count.high.shape[0]
    sums = (jax.device_get(word).astype(object).sum(0) for word in count)
    return [round(((high << 32) + low) / workers) for high, low in zip(*sums, strict=True)]
