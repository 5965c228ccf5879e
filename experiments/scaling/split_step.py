"""A step with `compress.exchange`, cut into the programs whose times are asked for.

        gradient: g_i = grad loss(w, batch_i)        selection: u_i = memory + g_i, C(u_i)
        exchange: mean of C(u_i)                     apply: memory, ledger, w <- w + inner(mean)

The parts are the library's own halves of a round, so that together they compute what `runtime.data_parallel`
computes in one program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import varying
from sparsetrain.compress import exchange, ledger
from sparsetrain.compress.compressor import Aggregate, Compressor, aggregated, moved_bytes
from sparsetrain.compress.memory import Memory
from sparsetrain.compress.transform import Offer, offered, settled

AXIS = "workers"


class Held(NamedTuple):
    """What a step takes and returns."""

    params: Any
    inner: Any  # state of the optimizer behind the exchange
    own: Any  # `ExchangeState`, leaves with a leading axis [W]


class SplitStep:
    """The four programs.

    Args:
      loss: (params, batch) -> scalar.
      compressor: what is sent.
      memory: what is remembered.
      inner: optimizer of the mean.
      mesh: of `runtime.worker_mesh`.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], jax.Array],
        compressor: Compressor,
        memory: Memory,
        inner: optax.GradientTransformation,
        mesh: Mesh,
    ):
        self._loss, self._compressor, self._memory, self._inner = loss, compressor, memory, inner
        self._mesh = mesh
        rows, whole = P(AXIS), P()
        self.gradient = self._program(self._gradient, (whole, rows), rows)
        self.selection = self._program(self._selection, (rows, rows), rows, donate=0)
        self.exchange = self._program(self._exchange, rows, (whole, rows))
        held = Held(whole, whole, rows)
        self.apply = self._program(self._apply, (held, rows, whole, rows), held, donate=0)

    def init(self, params: Any) -> Held:
        """Before the first step, of parameters that are the same in all processes."""
        params = jax.tree.map(np.asarray, params)

        def start(params: Any) -> Held:
            state = exchange(self._compressor, self._memory, axis_name=AXIS).init(params)
            return Held(params, self._inner.init(params), _stacked(state))

        return self._program(start, P(), Held(P(), P(), P(AXIS)))(params)

    def __call__(
        self, held: Held, batch: Any, note: Callable[[str, Any], None] = lambda name, made: None
    ) -> Held:
        """One step.

        Args:
          held: taken over.
          batch: leading axis over the workers.
          note: told of each part's name and of what it has made.
        """
        gradients = self.gradient(held.params, batch)
        note("gradient", gradients)
        offer = self.selection(gradients, held.own)
        note("selection", offer)
        mean, rest = self.exchange(offer)
        note("exchange", (mean, rest))
        held = self.apply(held, offer, mean, rest)
        note("apply", held)
        return held

    def _gradient(self, params: Any, batch: Any) -> Any:
        own = varying.over(frozenset([AXIS]), params)
        return _stacked(jax.grad(self._loss)(own, batch))

    def _selection(self, gradients: Any, own: Any) -> Any:
        gradients, state = _first((gradients, own))
        book = ledger.with_step(state.ledger, gradients)
        state = state._replace(ledger=book)
        return _stacked((offered(self._compressor, self._memory, gradients, state), book))

    def _exchange(self, offer: Any) -> Any:
        offer, _ = _first(offer)
        done = aggregated(
            self._compressor, offer.payloads, offer.u, offer.compressor, AXIS, offer.speaks
        )
        return done.mean, _stacked((done.accepted, done.state))

    def _apply(self, held: Held, offer: Any, mean: Any, rest: Any) -> Held:
        state, (offer, book), (accepted, compressor) = _first((held.own, offer, rest))
        moved = moved_bytes(self._compressor, offer.payloads, AXIS)
        combined = Aggregate(mean, accepted, compressor)
        done = settled(self._memory, Offer(*offer), combined, state._replace(ledger=book), moved)
        state = state._replace(
            compressor=done.compressor,
            memory=done.memory,
            ledger=done.ledger,
            nonfinite=done.nonfinite,
        )
        updates, inner = self._inner.update(mean, held.inner, held.params)
        return Held(optax.apply_updates(held.params, updates), inner, _stacked(state))

    def _program(
        self, function: Callable[..., Any], inputs: Any, outputs: Any, donate: Any = ()
    ) -> Any:
        mapped = jax.shard_map(function, mesh=self._mesh, in_specs=inputs, out_specs=outputs)
        shardings = jax.tree.map(
            lambda spec: NamedSharding(self._mesh, spec),
            outputs,
            is_leaf=lambda spec: isinstance(spec, P),
        )
        return jax.jit(mapped, donate_argnums=donate, out_shardings=shardings)


def _stacked(tree: Any) -> Any:
    """One worker's arrays as its row."""
    return jax.tree.map(lambda leaf: varying.over(frozenset([AXIS]), leaf)[None], tree)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)
