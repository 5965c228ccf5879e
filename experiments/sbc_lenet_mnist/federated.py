"""Clients that train together, simulated on one device by `vmap` with a named axis."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from experiments.sbc_lenet_mnist import tally
from experiments.sbc_lenet_mnist.methods import AXIS
from sparsetrain import compress
from sparsetrain.data import epoch_permutation, steps_per_epoch


class Job(NamedTuple):
    """What is trained.

    Attributes:
      loss: (params, batch) -> scalar; or, with `carries`, (params, batch, carry) -> (scalar, carry).
      data: arrays that `batch` reads; an argument of the compiled program, which constants would bloat.
      batch: (data, client, step) -> batch of that client; client and step are int32 scalars.
      carry: what one client hands from batch to batch, such as the state of a recurrent network; None for nothing.
    """

    loss: Callable[..., Any]
    data: Any
    batch: Callable[[Any, jax.Array, jax.Array], Any]
    carry: Any = None


class State(NamedTuple):
    """Everything that moves; all but the step has a leading axis of clients."""

    step: jax.Array
    params: Any
    optimizer: Any
    carry: Any
    loss: jax.Array  # of the latest batch


def create(params: Any, optimizer: optax.GradientTransformation, clients: int, job: Job) -> State:
    """All clients at the same parameters."""
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * clients), (params, job.carry))
    states = jax.vmap(optimizer.init, axis_name=AXIS)(copies[0])
    return State(jnp.int32(0), copies[0], states, copies[1], jnp.zeros(clients))


def trainer(job: Job, optimizer: optax.GradientTransformation) -> Callable[[State, int], State]:
    """(state, step to reach) -> state. Compiled once for any number of steps; donates its state."""

    def gradient(params: Any, batch: Any, carry: Any) -> tuple[jax.Array, Any, Any]:
        if job.carry is None:
            return *jax.value_and_grad(job.loss)(params, batch), None
        (loss, carry), found = jax.value_and_grad(job.loss, has_aux=True)(params, batch, carry)
        return loss, found, carry

    def one(state: State, data: Any) -> State:
        def of_client(parts: Any) -> Any:
            client, params, carry = parts
            return gradient(params, job.batch(data, client, state.step), carry)

        clients = jnp.arange(len(state.loss), dtype=jnp.int32)
        # One client after the other: products of one client's shapes are the fastest on a CPU.
        loss, gradients, carry = lax.map(of_client, (clients, state.params, state.carry))
        update = jax.vmap(optimizer.update, axis_name=AXIS)
        updates, states = update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, states, carry, loss)

    @functools.partial(jax.jit, donate_argnums=0)
    def until(state: State, end: jax.Array, data: Any) -> State:
        return lax.while_loop(lambda state: state.step < end, lambda state: one(state, data), state)

    return lambda state, end: until(state, jnp.int32(end), job.data)


def server(state: State) -> Any:
    """The parameters that all clients agree upon: of the latest exchange where they step locally."""
    nodes = jax.tree.leaves(state.optimizer, is_leaf=is_local)
    anchors = [node.anchor for node in nodes if is_local(node)]
    return jax.tree.map(lambda leaf: leaf[0], anchors[0] if anchors else state.params)


def is_local(node: Any) -> bool:
    """Whether a node of an optimizer's state belongs to `compress.local_steps`."""
    return isinstance(node, compress.LocalStepsState)


def sent(state: State) -> dict[str, float]:
    """Upstream of one client so far, the mean over clients: bits, bytes, and what dense exchange takes."""
    clients = len(state.loss)
    found = compress.report(state.optimizer)
    return {
        "bits": found["bits_sent"] / clients,
        "wire_bytes": found["wire_bytes"] / clients,
        "dense_bits": found["dense_bits"] / clients,
    }


def per_tensor(state: State, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Name -> payload bits and entries that one client has sent of that tensor, the mean over clients.

    "all" -> those of everything, where one payload is made of the whole tree.
    """
    found = tally.find(state.optimizer)
    if found.bits.low.shape[-1] != len(names):
        names = ["all"]
    counts = zip(
        names, tally.whole_numbers(found.bits), tally.whole_numbers(found.sent), strict=True
    )
    return {name: {"bits": bits, "sent": count} for name, bits, count in counts}


def batches(key: jax.Array, examples: int, clients: int, steps: int, size: int) -> jax.Array:
    """Which examples every client sees at every step: a balanced random split, then epochs of its own.

    Args:
      key: of the data; methods with equal keys see equal batches.
      examples: N; each client owns N // clients of them.
      clients: W.
      steps: S.
      size: B.

    Returns:
      int32[W, S, B].
    """
    split, order = jax.random.split(key)
    own = examples // clients
    owned = jax.random.permutation(split, examples)[: own * clients].reshape(clients, own)
    epochs = -(-steps // steps_per_epoch(own, size))

    def of_client(client: jax.Array) -> jax.Array:
        mine = jax.random.fold_in(order, client)
        each = lambda epoch: epoch_permutation(mine, epoch, own)[: own // size * size]  # noqa: E731
        seen = lax.map(each, jnp.arange(epochs)).reshape(-1, size)[:steps]
        return owned[client][seen]

    return lax.map(of_client, jnp.arange(clients)).astype(jnp.int32)
