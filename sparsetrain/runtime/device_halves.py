"""What devices do on either side of an exchange of messages: local steps and an offer; a mean and a landing.

Between them is the host (`messages.py`). One worker's part is written once and stacked by `vmap`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from sparsetrain.compress.compressor import Aggregate, aggregated
from sparsetrain.compress.local_steps import Halves
from sparsetrain.compress.transform import Offer, offered, settled
from sparsetrain.payload import BitCount
from sparsetrain.runtime.data_parallel import Trained
from sparsetrain.side_by_side import side_by_side

_MESSAGES = "messages"


class DeviceHalves:
    """Three compiled programs over the workers of one process; each takes over the `Trained` it is given.

    walk:    a local step between exchanges
    speak:   the last local step, dW, C(dW)
    listen:  mean of decoded messages, new anchor, residual, ledger
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], jax.Array],
        halves: Halves,
        own: slice,
        rows: NamedSharding,
    ):
        self._loss, self._halves, self._own = loss, halves, own
        self.walk = jax.jit(jax.vmap(self._walk), donate_argnums=0, out_shardings=rows)
        self.speak = jax.jit(jax.vmap(self._speak), donate_argnums=0, out_shardings=rows)
        self.listen = jax.jit(self._listen, donate_argnums=0, out_shardings=rows)

    def _walk(self, held: Trained, batch: Any) -> tuple[Trained, jax.Array]:
        held, moves, value = self._moved(held, batch)
        return held._replace(params=optax.apply_updates(held.params, moves)), value

    def _speak(self, held: Trained, batch: Any) -> tuple[Trained, Offer, jax.Array]:
        held, moves, value = self._moved(held, batch)
        drift = self._halves.drift(held.params, moves, held.opt_state)
        offer = offered(self._halves.compressor, self._halves.memory, drift, held.opt_state)
        return held, offer, value

    def _moved(self, held: Trained, batch: Any) -> tuple[Trained, Any, jax.Array]:
        value, gradients = side_by_side(jax.value_and_grad(self._loss))(held.params, batch)
        moves, state = self._halves.walk(gradients, held.opt_state, held.params)
        return Trained(held.params, state), moves, value

    def _listen(
        self,
        trained: Trained,
        offers: Offer,
        everyone: Any,
        spoke: jax.Array,
        sizes: jax.Array,
        moved: BitCount,
    ) -> Trained:
        """Everyone's payloads and whether they spoke, [W]; bytes of own messages, [local]; bytes moved by each."""
        halves = self._halves
        # As receivers have it: what the codec rounds stays with the sender, in its memory.
        own = jax.tree.map(lambda leaf: leaf[self._own], everyone)

        def of_worker(held: Trained, offer: Offer, size: jax.Array) -> Trained:
            params, state = held.params, held.opt_state

            def of_message(payloads: Any, speaks: jax.Array) -> tuple[Any, Any]:
                done = aggregated(
                    halves.compressor, payloads, offer.u, offer.compressor, _MESSAGES, speaks
                )
                return done.mean, done.state

            # The compressor's own mean, as under any named axis; computed once, whoever receives it.
            hear = jax.vmap(of_message, axis_name=_MESSAGES, out_axes=None)
            mean, compressor = hear(everyone, spoke)
            leaves = jax.tree.leaves(halves.compressor.decompress(offer.payloads))
            accepted = jax.tree.unflatten(jax.tree.structure(offer.u), leaves)
            combined = Aggregate(mean, accepted, compressor)
            done = settled(halves.memory, offer, combined, state, moved, BitCount.of(size))
            back, state = halves.land(params, state, done)
            # From parameters that are not finite no difference leads back.
            params = jax.tree.map(
                lambda p, anchor: jnp.where(done.speaks, p, anchor),
                optax.apply_updates(params, back),
                state.anchor,
            )
            return Trained(params, state)

        return jax.vmap(of_worker)(trained, offers._replace(payloads=own), sizes)
