"""What a compressor is, and how one that is written for a single tensor acts on a tree.

A gradient passes three parts, as in GRACE:

    u, memory   = memory.compensate(gradient, memory)         what was held back is added
    payloads    = compressor.compress(u)                      what is sent
    mean, taken = compressor.aggregate(payloads, u)           how workers combine, and what of u has now been spoken for
    memory      = memory.update(u, taken)                     the rest is remembered

`aggregate` has the collectives, so that methods fit in which the sent positions are agreed upon
between workers (CLT-k, gTop-k) or whose rounds need each other's results (PowerSGD). `accepted` is
what the receivers used of *this* worker's u; memories keep `u - accepted`.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives, numerics, tree
from sparsetrain.payload import Dense, Payload, is_payload


class Aggregate(NamedTuple):
    """What comes out of a round.

    Attributes:
      mean: tree, the same on every worker: what the optimizer gets.
      accepted: tree, the part of this worker's u that went into it.
      state: the compressor's state for the next round.
    """

    mean: Any
    accepted: Any
    state: Any


@runtime_checkable
class Compressor(Protocol):
    """Acts on a tree of float32 (or float64) arrays.

    What need not be there, and is asked for by name:

      moved_bytes(payloads, workers): of one with collectives of its own, see `moved_bytes`.
      aggregate_speakers, averages: of one whose result is no plain mean of those who spoke, see
        `aggregated`.
      shards: mesh axis over which every tensor lies in pieces.
      one_pass, has_one_pass: of one that can do the work of `residual()` along with its own.

    One that wraps another passes them on. A state that differs between workers is a NamedTuple with a method
    `across_workers`, as of a `Memory`, or a run stays with as many workers as it began with.
    """

    def init(self, params: Any) -> Any:
        """State for parameters of these shapes; a pytree of arrays."""
        ...

    def compress(self, u: Any, state: Any) -> tuple[Any, Any]:
        """Payloads of this worker, a tree with `Payload`s as leaves; and the new state."""
        ...

    def decompress(self, payloads: Any) -> Any:
        """What a receiver makes of one worker's payloads: a tree like u."""
        ...

    def aggregate(self, payloads: Any, u: Any, state: Any, axis_name: Any) -> Aggregate:
        """Combines the workers of a named axis; of one worker alone where it is None."""
        ...


def moved_bytes(compressor: Any, payloads: Any, axis_name: Any) -> int:
    """Bytes that leave this worker in one `aggregate`: known when the program is traced.

    Args:
      compressor: one with collectives of its own has a method `moved_bytes(payloads, workers)`.
      payloads: as from `compress`.
      axis_name: of the workers, or None.

    Returns:
      Bytes, in a ring or a tree; 0 for one worker.
    """
    return 0 if axis_name is None else moved_among(compressor, payloads, lax.axis_size(axis_name))


def moved_among(compressor: Any, payloads: Any, workers: int) -> int:
    """The same for a number of workers: what a compressor that wraps another says of that one."""
    if hasattr(compressor, "moved_bytes"):
        return compressor.moved_bytes(payloads, workers)
    each = jax.tree.leaves(payloads, is_leaf=is_payload)
    return sum(collectives.moved_bytes(payload, workers) for payload in each)


def aggregated(
    compressor: Any, payloads: Any, u: Any, state: Any, axis_name: Any, speaks: jax.Array
) -> Aggregate:
    """`compressor.aggregate`, its mean over the workers that spoke.

        mean = (sum of what was said) / (number of those who spoke)

    Args:
      compressor: one whose results are no mean says `averages = False`; one that goes on computing
        with the mean has a method `aggregate_speakers` with these arguments instead.
      payloads: of this worker; silenced where it does not speak.
      u: what they were made of.
      state: of the compressor.
      axis_name: of the workers, or None.
      speaks: bool scalar.

    Returns:
      As `aggregate`; exactly its plain mean where all spoke.
    """
    if hasattr(compressor, "aggregate_speakers"):
        return compressor.aggregate_speakers(payloads, u, state, axis_name, speaks)
    done = compressor.aggregate(payloads, u, state, axis_name)
    if axis_name is None or not getattr(compressor, "averages", True):
        return done
    speakers = lax.psum(speaks.astype(jnp.float32), axis_name)
    share = lax.axis_size(axis_name) / jnp.maximum(speakers, 1.0)
    return done._replace(mean=jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), done.mean))


def worker_mean(values: Any, axis_name: Any) -> Any:
    """Mean over the workers of a named axis; the values themselves where there is none."""
    return values if axis_name is None else lax.pmean(values, axis_name)


class LeafwiseState(NamedTuple):
    """State of a per-tensor compressor on a tree."""

    step: jax.Array  # int32 scalar, rounds so far
    leaves: tuple[Any, ...]  # what each leaf's compressor keeps


class LeafCompressor:
    """A compressor that treats every tensor by itself: subclasses define what happens to one.

    Subclasses are frozen dataclasses. A randomised one has a field `key`; each leaf and step gets
    its own.
    """

    key: Any = None
    # (payload, u, state, axis_name) -> Aggregate, of one whose workers do not simply take a mean.
    aggregate_leaf: Any = None

    def init_leaf(self, leaf: jax.Array) -> Any:
        """State for one tensor; a pytree of arrays, or () for none."""
        del leaf
        return ()

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        """Payload of one tensor."""
        raise NotImplementedError

    def init(self, params: Any) -> LeafwiseState:
        check_floating(params)
        states = tuple(
            self.init_leaf(leaf) if leaf.size else () for leaf in jax.tree.leaves(params)
        )
        return LeafwiseState(jnp.zeros((), jnp.int32), states)

    def compress(self, u: Any, state: LeafwiseState) -> tuple[Any, LeafwiseState]:
        leaves, structure = jax.tree.flatten(u)
        payloads, states = [], []
        step_key = None if self.key is None else jax.random.fold_in(self.key, state.step)
        for number, (leaf, leaf_state) in enumerate(zip(leaves, state.leaves, strict=True)):
            key = None if step_key is None else jax.random.fold_in(step_key, number)
            payload: Payload = Dense(leaf)
            if leaf.size:
                payload, leaf_state = self.compress_leaf(leaf, leaf_state, state.step, key)
            payloads.append(payload)
            states.append(leaf_state)
        step = state.step + 1
        return jax.tree.unflatten(structure, payloads), LeafwiseState(step, tuple(states))

    def decompress(self, payloads: Any) -> Any:
        return decompress(payloads)

    def aggregate(self, payloads: Any, u: Any, state: LeafwiseState, axis_name: Any) -> Aggregate:
        leaves, structure = jax.tree.flatten(u)
        sent = jax.tree.leaves(payloads, is_leaf=is_payload)
        if self.aggregate_leaf is None:
            means = collectives.means(sent, axis_name)
            accepted = [payload.to_dense() for payload in sent]
            return Aggregate(
                jax.tree.unflatten(structure, means),
                jax.tree.unflatten(structure, accepted),
                state,
            )
        rounds = [
            self.aggregate_leaf(payload, leaf, leaf_state, axis_name)
            if leaf.size
            else Aggregate(worker_mean(leaf, axis_name), leaf, leaf_state)
            for payload, leaf, leaf_state in zip(sent, leaves, state.leaves, strict=True)
        ]
        return Aggregate(
            jax.tree.unflatten(structure, [each.mean for each in rounds]),
            jax.tree.unflatten(structure, [each.accepted for each in rounds]),
            LeafwiseState(state.step, tuple(each.state for each in rounds)),
        )


def decompress(payloads: Any) -> Any:
    """Dense form of every payload of a tree.

    Example:
      >>> from sparsetrain.payload import Dense
      >>> decompress({"w": Dense(jnp.ones(1))})["w"].tolist()
      [1.0]
    """
    return jax.tree.map(lambda payload: payload.to_dense(), payloads, is_leaf=is_payload)


def check_floating(params: Any) -> None:
    """Refuses leaves that have no gradient.

    Raises:
      TypeError: a leaf is not floating; the message has its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"leaf {tree.join(path)!r} has dtype {jnp.result_type(leaf)}: only floating leaves "
                "can be compressed; keep it out with optax.masked or optax.partition"
            )


def accumulated(updates: Any) -> Any:
    """The tree in the dtypes in which sums are kept: at least float32."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf).astype(numerics.accumulator_dtype(jnp.result_type(leaf))),
        updates,
    )
