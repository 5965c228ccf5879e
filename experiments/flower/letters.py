"""What goes down to a client and comes up from it: frames that `wire.encode` writes, and a few integers."""

from typing import Any, NamedTuple

import jax
import numpy as np

from sparsetrain import wire
from sparsetrain.compress.compressor import Compressor
from sparsetrain.payload import Dense


class Down(NamedTuple):
    """What the server sends to one client.

    Attributes:
      version: of the weights that the client has once it has read this.
      whole: whether there is one frame, with all weights; else a frame for each answer of the server that the
        client may have missed, the latest last.
      frames: the bytes that are counted.
      heard: the latest round in which this client was heard; 0 for none.
    """

    version: int
    whole: bool
    frames: tuple[bytes, ...]
    heard: int

    @property
    def size(self) -> int:
        """Bytes of the frames."""
        return sum(map(len, self.frames))


class Up(NamedTuple):
    """What a client sends.

    Attributes:
      frame: its compressed update, the bytes that are counted; empty if it was not finite.
      examples: that it owns, by which its update is weighted.
      loss: mean over its local steps.
    """

    frame: bytes
    examples: int
    loss: float


def shapes_of(compressor: Compressor, params: Any) -> Any:
    """What the receiver of a compressor's frames must know: its payloads without their numbers."""
    sent = lambda params: compressor.compress(params, compressor.init(params))[0]  # noqa: E731
    return jax.eval_shape(sent, params)


def whole_frame(weights: Any) -> bytes:
    """All weights as one frame."""
    return wire.encode(jax.tree.map(Dense, weights))


def read_whole(frame: bytes, like: Any) -> Any:
    """The weights of `whole_frame`.

    Example:
      >>> read_whole(whole_frame({"w": np.ones(2, np.float32)}), {"w": np.zeros(2, np.float32)})["w"].tolist()
      [1.0, 1.0]
    """
    dense = wire.decode(frame, jax.eval_shape(lambda weights: jax.tree.map(Dense, weights), like))
    return jax.tree.map(lambda _, payload: np.asarray(payload.to_dense()), like, dense)
