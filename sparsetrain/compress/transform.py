"""A compressor, a memory and an aggregation as one optax transformation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import pretty
from sparsetrain.compress import ledger
from sparsetrain.compress.compressor import (
    Aggregate,
    Compressor,
    aggregated,
    check_floating,
    moved_bytes,
)
from sparsetrain.compress.ledger import Ledger
from sparsetrain.compress.memory import Memory, residual
from sparsetrain.payload import BitCount, is_payload


class Round(NamedTuple):
    """What one round of compression, sending and remembering produces."""

    mean: Any
    accepted: Any
    compressor: Any
    memory: Any
    ledger: Ledger
    nonfinite: jax.Array
    speaks: jax.Array  # bool scalar: whether this worker took part


class Offer(NamedTuple):
    """What one worker brings to a round, before the others are heard."""

    u: Any  # what was fed and remembered; zeros where it is not finite
    payloads: Any  # what is to be sent; silenced where u is not finite
    compressor: Any  # its state
    remembered: Any  # the memory's state after `compensate`
    speaks: jax.Array  # bool scalar


class ExchangeState(NamedTuple):
    """State of `exchange`."""

    compressor: Any
    memory: Any
    ledger: Ledger
    nonfinite: jax.Array  # int32 scalar: rounds in which this worker sent nothing

    def __repr__(self) -> str:
        return pretty.state(self)

    @staticmethod
    def across_workers() -> dict[str, str]:
        """Counts add up; memory and ledger speak for themselves."""
        return {"nonfinite": "sum"}

    @staticmethod
    def survives_restart() -> tuple[str, ...]:
        """Around masks that change, nothing of an exchange begins anew."""
        return ExchangeState._fields


def exchange(
    compressor: Compressor, memory: Memory | None = None, *, axis_name: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Sends a compressed gradient and remembers the rest.

        u = memory + g,    payloads = compress(u),    update = mean over workers,    memory <- u - accepted

    Args:
      compressor: what is sent; any of `sparsetrain.compress`.
      memory: what is remembered; error feedback (`residual()`) unless told otherwise. Unbiased
        compressors go with `no_memory()`.
      axis_name: the axis of `vmap`, `shard_map` or `pmap` over which workers combine; None for one
        worker, who then applies what it would have sent.

    Returns:
      A transformation whose updates are what all workers agree upon. What is fed back depends on
      where it stands in the chain, see `sparsetrain.compress.memory`. A worker with a NaN or an
      infinity in its gradient sends nothing that round, keeps its memory and counts the event; the
      mean is then over the others.

    Raises:
      TypeError: an argument that is no compressor or no memory; at `init`, a leaf that is not
        floating.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain import compress
      >>> tx = compress.exchange(compress.top_k(density=0.5))
      >>> updates, state = tx.update(jnp.array([3.0, 2.0]), tx.init(jnp.zeros(2)))
      >>> updates.tolist()
      [3.0, 0.0]
      >>> tx.update(jnp.array([3.0, 2.0]), state)[0].tolist()         # 2 + 2 > 3
      [0.0, 4.0]
    """
    memory = residual() if memory is None else memory
    check_parts(compressor, memory)

    def init_fn(params: Any) -> ExchangeState:
        check_floating(params)
        count = jnp.zeros((), jnp.int32)
        return ExchangeState(compressor.init(params), memory.init(params), ledger.empty(), count)

    def update_fn(
        updates: Any, state: ExchangeState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, ExchangeState]:
        del params, extra_args
        book = ledger.with_step(state.ledger, updates)
        done = one_round(compressor, memory, updates, state._replace(ledger=book), axis_name)
        mean = jax.tree.map(lambda mean, g: mean.astype(g.dtype), done.mean, updates)
        return mean, ExchangeState(done.compressor, done.memory, done.ledger, done.nonfinite)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def one_round(
    compressor: Compressor, memory: Memory, gradients: Any, state: Any, axis_name: Any
) -> Round:
    """Compresses, sends, aggregates and remembers once.

    Args:
      compressor: what is sent.
      memory: what is remembered.
      gradients: tree of what is to be sent: gradients, updates, or differences of parameters.
      state: anything with the fields of `ExchangeState`.
      axis_name: of the workers, or None.

    Returns:
      Results and new states; mean and accepted in at least float32.
    """
    has_one_pass = getattr(compressor, "has_one_pass", None)
    if has_one_pass is not None and has_one_pass() and memory == residual():
        return _round_of_one_pass(compressor, memory, gradients, state, axis_name)
    offer = offered(compressor, memory, gradients, state)
    combined = aggregated(
        compressor, offer.payloads, offer.u, offer.compressor, axis_name, offer.speaks
    )
    moved = moved_bytes(compressor, offer.payloads, axis_name)
    return settled(memory, offer, combined, state, moved)


def _round_of_one_pass(
    compressor: Any, memory: Memory, gradients: Any, state: Any, axis_name: Any
) -> Round:
    """As `one_round`, of a compressor that does the memory's part along with its own."""
    u, remembered = memory.compensate(gradients, state.memory)
    speaks = all_finite(u)
    payloads, rest, held = compressor.one_pass(
        gradients, state.memory.residual, state.compressor, speaks
    )
    combined = aggregated(compressor, payloads, u, held, axis_name, speaks)
    offer = Offer(u, payloads, held, remembered, speaks)
    moved = moved_bytes(compressor, payloads, axis_name)
    # What `settled` remembers is the same once more; nobody reads it, so it is not computed.
    done = settled(memory, offer, combined, state, moved)
    return done._replace(memory=state.memory._replace(residual=rest))


def offered(compressor: Compressor, memory: Memory, gradients: Any, state: Any) -> Offer:
    """The first half of a round, in which no other worker has a part.

    Args:
      compressor: what is sent.
      memory: what is remembered.
      gradients: as for `one_round`.
      state: anything with the fields of `ExchangeState`; it stays as it is until `settled`.

    Returns:
      What this worker brings.
    """
    u, remembered = memory.compensate(gradients, state.memory)
    speaks = all_finite(u)
    if (split_over := getattr(compressor, "shards", None)) is not None:
        # A worker is all its shards: it speaks as one.
        speaks = lax.psum((~speaks).astype(jnp.int32), split_over) == 0
    # Zeros, so that neither a collective nor a compressor's state meets what is not finite.
    u = jax.tree.map(lambda leaf: jnp.where(speaks, leaf, jnp.zeros_like(leaf)), u)
    payloads, compressor_state = compressor.compress(u, state.compressor)
    payloads = jax.tree.map(lambda payload: payload.silenced(speaks), payloads, is_leaf=is_payload)
    return Offer(u, payloads, compressor_state, remembered, speaks)


def settled(
    memory: Memory,
    offer: Offer,
    combined: Aggregate,
    state: Any,
    moved: int | BitCount,
    sent: BitCount | None = None,
) -> Round:
    """The second half of a round: the rest is remembered, the message is booked.

    Args:
      memory: what is remembered.
      offer: of this worker.
      combined: what came of all offers.
      state: as given to `offered`.
      moved: bytes that left this worker in collectives.
      sent: bytes of its message as they were counted; None for what the payloads say of themselves.

    Returns:
      As `one_round`.
    """
    new = memory.update(offer.u, combined.accepted, offer.payloads, offer.remembered)
    kept = jax.tree.map(lambda new, old: jnp.where(offer.speaks, new, old), new, state.memory)
    book = ledger.with_message(state.ledger, offer.payloads, offer.speaks, moved, sent)
    nonfinite = state.nonfinite + (~offer.speaks).astype(jnp.int32)
    return Round(
        combined.mean, combined.accepted, combined.state, kept, book, nonfinite, offer.speaks
    )


def all_finite(values: Any) -> jax.Array:
    """Whether no leaf holds a NaN or an infinity; bool scalar.

    Example:
      >>> bool(all_finite({"a": jnp.ones(2), "b": jnp.array([jnp.inf])}))
      False
    """
    leaves = jax.tree.leaves(values)
    if not leaves:
        return jnp.bool_(True)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def check_parts(compressor: Any, memory: Any) -> None:
    """Refuses what cannot compress or remember.

    Raises:
      TypeError: names the argument and the cure.
    """
    if not isinstance(compressor, Compressor):
        raise TypeError(
            f"compressor={compressor!r}: give one of sparsetrain.compress, such as top_k(density=0.01)"
        )
    if not isinstance(memory, Memory):
        raise TypeError(
            f"memory={memory!r}: give residual(), momentum_correction(0.9) or no_memory()"
        )
