"""What clients and server send one another."""

import dataclasses

from sparsetrain import compress
from sparsetrain.compress.compressor import Compressor


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to send updates.

    Attributes:
      label: in tables.
      up: what a client sends of its update; the rest is its residual.
      down: what the server sends of its own; the rest is the server's residual. `dense()` leaves none, and then
        weights travel whole.
    """

    label: str
    up: Compressor
    down: Compressor


METHODS = {
    "fedavg": Method("FedAvg", compress.dense(), compress.dense()),
    "top_k": Method("top-k, 1%", compress.top_k(0.01), compress.dense()),
    "sbc_4": Method("SBC, 4%", compress.sparse_binary(0.04), compress.dense()),
    "sbc_1": Method("SBC, 1%", compress.sparse_binary(0.01), compress.dense()),
    "stc_4": Method("STC, 4%", compress.sparse_ternary(0.04), compress.sparse_ternary(0.04)),
    "stc_1": Method("STC, 1%", compress.sparse_ternary(0.01), compress.sparse_ternary(0.01)),
}
