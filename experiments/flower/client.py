"""One client's turn: catch up, train, compress what it learned and what it still owed, remember the rest.

        W    <- whole weights, or the server's answers that were missed
        u     = R + (SGD_n(W) - W),    m = encode(C(u)),    R <- u - decode(m)

What a client keeps between its turns is a value that goes in and comes out, so that whoever runs the client can
keep it where it likes: a dictionary in `rounds.py`, Flower's `context.state` in `app.py`. A round in which the
client has no turn cannot touch it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.flower.letters import Down, Up, read_whole, shapes_of
from experiments.flower.methods import Method
from sparsetrain import compress, wire
from sparsetrain.compress.memory import ResidualState
from sparsetrain.compress.transform import Offer, offered

MEMORY = compress.residual()


class Sender(NamedTuple):
    """The part of a client that compresses; arrays."""

    compressor: Any
    memory: ResidualState


class Kept(NamedTuple):
    """What a client keeps between its turns.

    Attributes:
      version: of its weights; -1 as long as it has none.
      weights: the server's, as this client last knew them.
      sender: with the residual.
      sent: its latest frame; what was in it is owed again if the server never heard it.
      sent_in: round of that frame; 0 for none.
    """

    version: int
    weights: Any
    sender: Sender
    sent: bytes
    sent_in: int


class Client:
    """What all clients of a run have in common: programs, compiled once."""

    def __init__(
        self,
        method: Method,
        loss: Callable[[Any, Any], jax.Array],
        optimizer: optax.GradientTransformation,
        like: Any,
    ):
        """See class.

        Args:
          method: what is sent.
          loss: (weights, batch) -> scalar.
          optimizer: of the local steps. It begins anew in every turn: nothing of it is kept.
          like: tree of the weights' shapes and dtypes.
        """
        self._method, self._loss, self._optimizer = method, loss, optimizer
        self._like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        self._up, self._down = shapes_of(method.up, like), shapes_of(method.down, like)
        self._train = jax.jit(self._trained)
        self._remember = jax.jit(self._remembered)
        self._moved = jax.jit(moved)
        self._owe = jax.jit(self._owed)

    def fresh(self) -> Kept:
        """What a client keeps before its first turn."""
        sender = Sender(self._method.up.init(self._like), MEMORY.init(self._like))
        return Kept(-1, self._like, jax.device_get(sender), b"", 0)

    def turn(
        self, kept: Kept, down: Down, batches: Any, number: int, examples: int
    ) -> tuple[Kept, Up]:
        """One invitation accepted.

        Args:
          kept: by this client.
          down: what the server sent.
          batches: tree of arrays [steps, B, ...], a batch for every local step.
          number: of the round, from 1.
          examples: that this client owns.

        Returns:
          (what to keep, what to send). An update that is not finite is not sent and leaves the residual as it was.

        Raises:
          ValueError: answers are missing between this client's weights and what was sent.
          WireError: a frame that cannot be trusted.
        """
        weights = self.caught_up(kept, down)
        sender = kept.sender
        if kept.sent and kept.sent_in != down.heard:
            sender = self._owe(sender, wire.decode(kept.sent, self._up))
        offer, loss = self._train(weights, batches, sender)
        frame = b""
        if bool(offer.speaks):
            frame = wire.encode(jax.device_get(offer.payloads))
            # As receivers have it: what the codec might round stays here.
            sender = self._remember(offer, wire.decode(frame, self._up))
        kept = Kept(down.version, weights, jax.device_get(sender), frame, number)
        return kept, Up(frame, examples, float(loss))

    def caught_up(self, kept: Kept, down: Down) -> Any:
        """The server's weights of the version that was sent, bit for bit.

        Raises:
          ValueError: answers are missing.
        """
        if down.whole:
            return read_whole(down.frames[0], self._like)
        missed = down.version - kept.version
        if kept.version < 0 or missed > len(down.frames):
            raise ValueError(
                f"weights of version {kept.version} and {len(down.frames)} answers do not make version {down.version}: "
                "this client has lost its state; let the server forget it, so that it sends whole weights"
            )
        weights = kept.weights
        # Those that the client has already: the server cannot know of a message that it did not hear.
        for frame in down.frames[len(down.frames) - missed :]:
            weights = self._moved(weights, wire.decode(frame, self._down))
        return jax.device_get(weights)

    def _trained(self, weights: Any, batches: Any, sender: Sender) -> tuple[Offer, jax.Array]:
        def step(carry: Any, batch: Any) -> tuple[Any, jax.Array]:
            params, state = carry
            loss, gradients = jax.value_and_grad(self._loss)(params, batch)
            updates, state = self._optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), loss

        (trained, _), losses = lax.scan(step, (weights, self._optimizer.init(weights)), batches)
        difference = jax.tree.map(jnp.subtract, trained, weights)
        return offered(self._method.up, MEMORY, difference, sender), jnp.mean(losses)

    def _remembered(self, offer: Offer, received: Any) -> Sender:
        accepted = self._method.up.decompress(received)
        return Sender(
            offer.compressor, MEMORY.update(offer.u, accepted, received, offer.remembered)
        )

    def _owed(self, sender: Sender, unheard: Any) -> Sender:
        residual = jax.tree.map(
            jnp.add, sender.memory.residual, self._method.up.decompress(unheard)
        )
        return sender._replace(memory=ResidualState(residual))


def moved(weights: Any, answer: Any) -> Any:
    """Weights after an answer of the server; one definition for both ends.

    Args:
      weights: tree of arrays.
      answer: the same tree of payloads.
    """
    return jax.tree.map(lambda w, payload: w + payload.to_dense(), weights, answer)
