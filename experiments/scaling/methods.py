"""The methods that are compared, and how each is run."""

import dataclasses
from typing import Any

from sparsetrain import compress
from sparsetrain.compress.sparse_binary import PRESETS


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to exchange.

    Attributes:
      label: in tables.
      every: steps between two exchanges.
      density: share of the entries in a message.
      model: name in `runtime.cost_model`.
      in_messages: whether the host encodes and decodes (`runtime.message_training`).
    """

    label: str
    every: int = 1
    density: float = 1.0
    model: str = "ring"
    in_messages: bool = False

    def compressor(self) -> Any:
        """What is sent."""
        if self.in_messages:
            return compress.sparse_binary(self.density)
        if self.density == 1.0:
            return compress.dense()
        make = compress.top_k if self.model == "top_k" else compress.layerwise
        return make(self.density)

    def memory(self) -> Any:
        """What is remembered."""
        return compress.no_memory() if self.density == 1.0 else compress.residual()


METHODS = {
    "dense": Method("dense"),
    "top_k": Method("top-k", density=0.001, model="top_k"),
    "dls": Method("DLS(1)", density=0.001, model="dls"),
    **{
        f"sbc_{number}": Method(f"SBC({number})", every, density, "sbc", in_messages=True)
        for number, (every, density) in PRESETS.items()
    },
}
