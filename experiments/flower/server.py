"""The server's part: decode what arrived, take the mean, compress it for the way back, and know who missed what.

        U  = R + sum_i n_i decode(m_i) / sum_i n_i    over those who answered, n_i their examples
        a  = encode(C(U)),    R <- U - decode(a),    W <- W + decode(a)

A client that was away reads the answers it missed, or whole weights where those are fewer bytes.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from experiments.flower.client import moved
from experiments.flower.letters import Down, Up, shapes_of, whole_frame
from experiments.flower.methods import Method
from sparsetrain import wire
from sparsetrain.compress.memory import zeros


class Server:
    """Weights, the server's residual, and what it knows of its clients.

    Attributes:
      weights: tree of NumPy arrays.
      version: answers so far; a round in which nobody is heard has none.
      residual: what the answers still owe; zeros where `down` is dense.
    """

    def __init__(self, method: Method, weights: Any):
        """See class.

        Args:
          method: what is sent.
          weights: tree of arrays, the start.
        """
        self._method = method
        self.weights = jax.device_get(weights)
        self.version = 0
        self.residual = jax.device_get(zeros(weights))
        self._compressor = method.down.init(weights)
        self._up, self._down = shapes_of(method.up, weights), shapes_of(method.down, weights)
        self._whole = whole_frame(self.weights)
        self._answers: list[bytes] = []  # the latest; fewer bytes than whole weights
        self._versions: dict[int, int] = {}  # client -> version that it is known to have
        self._heard: dict[int, int] = {}  # client -> round in which it was last heard

    def letter(self, client: int) -> Down:
        """What a client is sent when it is asked.

        Args:
          client: its number.
        """
        heard = self._heard.get(client, 0)
        missed = self.version - self._versions.get(client, -1)
        if client in self._versions and missed <= len(self._answers):
            # With nothing missed there is nothing to send.
            frames = tuple(self._answers[len(self._answers) - missed :])
            return Down(self.version, False, frames, heard)
        return Down(self.version, True, (self._whole,), heard)

    def close(self, number: int, answers: Mapping[int, Up]) -> None:
        """Ends a round with what has arrived, of whomever.

        Args:
          number: of the round, from 1.
          answers: client -> what it sent. A frame that cannot be trusted is as one that never came, so that its
            sender will owe what was in it; a log line says so.
        """
        received = []
        # In one order, so that sums do not depend on who was faster.
        for client, up in sorted(answers.items()):
            try:
                if up.frame:
                    received.append((up.examples, wire.decode(up.frame, self._up)))
            except wire.WireError as error:
                logging.warning("round %d, client %d not heard: %s", number, client, error)
                continue
            self._versions[client], self._heard[client] = self.version, number
        if not received:
            return
        total = sum(examples for examples, _ in received)
        mean = zeros(self.weights)
        for examples, payloads in received:
            mean = _added(self._method, mean, payloads, jnp.float32(examples / total))
        u, payloads, self._compressor = _answered(
            self._method, mean, self.residual, self._compressor
        )
        frame = wire.encode(jax.device_get(payloads))
        settled = _settled(self._method, self.weights, u, wire.decode(frame, self._down))
        self.weights, self.residual = jax.device_get(settled)
        self.version += 1
        self._whole = whole_frame(self.weights)
        self._answers.append(frame)
        # Of older ones whole weights are no more bytes, so that nobody will ask for them.
        while sum(map(len, self._answers)) >= len(self._whole):
            del self._answers[0]


# Compiled once for all runs of a method, which is why it must be hashable.
@functools.partial(jax.jit, static_argnums=0)
def _added(method: Method, mean: Any, payloads: Any, share: jax.Array) -> Any:
    sent = method.up.decompress(payloads)
    return jax.tree.map(lambda m, s: m + share * s, mean, sent)


@functools.partial(jax.jit, static_argnums=0)
def _answered(method: Method, mean: Any, residual: Any, compressor: Any) -> tuple[Any, Any, Any]:
    u = jax.tree.map(jnp.add, residual, mean)
    return u, *method.down.compress(u, compressor)


@functools.partial(jax.jit, static_argnums=0)
def _settled(method: Method, weights: Any, u: Any, answer: Any) -> tuple[Any, Any]:
    residual = jax.tree.map(jnp.subtract, u, method.down.decompress(answer))
    return moved(weights, answer), residual
