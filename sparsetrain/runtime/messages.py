"""`local_steps` over real messages: what workers exchange is what `wire.encode` writes.

        device: n local steps, dW, C(dW)  ->  host: encode, all-gather of bytes, decode  ->  device: mean, A, R

The codec works on the host, so that an exchange is two compiled halves with bytes between them. The halves
are those of `compress.local_steps` itself, and the mean is taken by the compressor's own `aggregate`, over decoded
messages in the order of the workers: all processes compute the same anchor, and so does a simulation on one device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import wire
from sparsetrain.compress import LocalSteps, sync
from sparsetrain.compress.transform import Offer
from sparsetrain.payload import BitCount, is_payload
from sparsetrain.runtime.byte_gather import Gathered, gather_bytes
from sparsetrain.runtime.data_parallel import Trained
from sparsetrain.runtime.device_halves import DeviceHalves


class MessageTraining:
    """What `message_training` returns: `init`, `place`, `step`, `params`."""

    def __init__(
        self,
        loss: Callable[[Any, Any], jax.Array],
        tx: LocalSteps,
        workers: int,
        gather: Callable[[Sequence[bytes]], Gathered],
    ):
        self._halves, self._gather = tx.halves, gather
        self._workers, self._local = workers, workers // jax.process_count()
        # Simulated workers share out the devices of their process, as far as these divide them.
        devices = jax.local_devices()
        count = max(n for n in range(1, len(devices) + 1) if self._local % n == 0)
        mesh = Mesh(np.array(devices[:count]), ("workers",))
        self._rows, self._whole = NamedSharding(mesh, P("workers")), NamedSharding(mesh, P())
        first = jax.process_index() * self._local
        self._device = DeviceHalves(loss, tx.halves, slice(first, first + self._local), self._rows)
        self._known: tuple[Any, int] = (None, 0)

    def init(self, params: Any) -> Trained:
        """This process's workers before their first step.

        Args:
          params: tree of arrays, the same in all processes.

        Returns:
          `Trained`, every leaf with a leading axis of this process's workers.
        """

        def start(params: Any) -> Trained:
            one = Trained(params, self._halves.init(params))
            return jax.tree.map(lambda leaf: jnp.stack([leaf] * self._local), one)

        return jax.jit(start, out_shardings=self._rows)(jax.tree.map(np.asarray, params))

    def place(self, batch: Any) -> Any:
        """Makes arrays over this process's workers of what it has for them.

        Args:
          batch: tree of arrays, leading axis: examples of this process, its workers' in order.

        Returns:
          Tree of arrays whose leading axis is that of the workers.
        """
        return jax.tree.map(
            lambda leaf: jax.device_put(
                np.asarray(leaf).reshape(self._local, -1, *np.shape(leaf)[1:]), self._rows
            ),
            batch,
        )

    def step(self, trained: Trained, batch: Any) -> tuple[Trained, jax.Array]:
        """One step of every worker of this process; at every n-th one an exchange with all.

        Args:
          trained: taken over; go on with what is returned.
          batch: as `place` makes it; every worker's loss sees its own rows.

        Returns:
          (trained, mean of the losses of this process's workers: others are heard in exchanges alone).

        Raises:
          WireError: a message that cannot be trusted; it names the worker. `trained` is spent then: go back to
            a checkpoint.
        """
        number = self._steps_of(trained) + 1
        if number % self._halves.every:
            trained, losses = self._device.walk(trained, batch)
        else:
            trained, offer, losses = self._device.speak(trained, batch)
            trained = self._exchanged(trained, offer, number)
        self._known = (trained.opt_state.step, number)
        return trained, jnp.mean(losses)

    def params(self, trained: Trained) -> Any:
        """Parameters that all workers agree upon: those of the last exchange."""
        first = jax.tree.map(lambda leaf: leaf[0], trained)
        return sync(first.params, first.opt_state)

    def _steps_of(self, trained: Trained) -> int:
        """Steps done: read from the device once, and counted from there."""
        known, number = self._known
        step = trained.opt_state.step
        return number if step is known else int(step[0])

    def _exchanged(self, trained: Trained, offer: Offer, number: int) -> Trained:
        """The host's part: payloads to bytes, to all workers and back."""
        payloads, speaks = jax.device_get((offer.payloads, offer.speaks))
        own = [jax.tree.map(lambda leaf, i=i: leaf[i], payloads) for i in range(self._local)]
        # Who has nothing finite to say sends an empty message, by which all know.
        said = [wire.encode(each) if ok else b"" for each, ok in zip(own, speaks, strict=True)]
        messages, carried = self._gather(said)
        if len(messages) != self._workers:
            raise wire.WireError(f"{len(messages)} messages of {self._workers} workers")
        # Positions that are agreed upon are those of one's own payload; of others it gives the shapes.
        heard = [self._decoded(each, own[0], i, number) for i, each in enumerate(messages)]
        everyone = jax.tree.map(lambda *leaves: np.stack(leaves), *heard)
        spoke = np.array([bool(each) for each in messages])
        sizes = jax.device_put(np.array([len(each) for each in said], np.uint32), self._rows)
        # In a ring each passes on all but its own: what `moved_bytes` means elsewhere too.
        moved = BitCount.of((self._workers - 1) * carried)
        everyone, spoke, moved = jax.device_put((everyone, spoke, moved), self._whole)
        return self._device.listen(trained, offer, everyone, spoke, sizes, moved)

    def _decoded(self, message: bytes, like: Any, worker: int, number: int) -> Any:
        if not message:
            silent = jax.tree.map(lambda p: p.silenced(np.False_), like, is_leaf=is_payload)
            return jax.tree.map(np.asarray, silent)
        try:
            return wire.decode(message, like)
        except wire.WireError as error:
            raise wire.WireError(
                f"message of worker {worker} (process {worker // self._local}) at step {number}: {error}"
            ) from error


def message_training(
    loss: Callable[[Any, Any], jax.Array],
    tx: LocalSteps,
    workers: int | None = None,
    *,
    gather: Callable[[Sequence[bytes]], Gathered] = gather_bytes,
) -> MessageTraining:
    """Training on many workers that send one another bytes: SBC, FedAvg, STC, across processes or simulated.

        W_i <- n steps of tx's inner optimizer,    m_i = encode(C(W_i - A + R_i))
        A <- A + outer(-mean over contributors of decode(m_i)),    W_i <- A

    Args:
      loss: (params, batch) -> scalar.
      tx: `compress.local_steps(...)`, `sbc` or `stc` itself, not in a chain; its `axis_name` does not matter. For
        FedAvg its compressor is `top_k(1.0)`, for STC's residual on the server `both_ways(...)`.
      workers: W in all processes together, simulated where they are more than processes; None for one a process.
      gather: carries the messages, see `gather_bytes`.

    Returns:
      `MessageTraining`: `compress.local_steps` with the same numbers. In the ledger `wire_bytes` has the lengths
      of the messages, `moved_bytes` what the collective carried for them: (W - 1) (4 + padded length) an exchange. A
      worker whose difference is not finite sends an empty message and begins anew from the anchor; it is counted in
      `nonfinite`, and the mean is over the others.

    Raises:
      TypeError: tx that is no `local_steps`.
      ValueError: workers that do not divide into processes; a compressor whose rounds are no means of messages.

    Reference: Sattler et al., Sparse Binary Compression (arXiv 1805.08768), STC (arXiv 1903.02891); McMahan et al.,
    FedAvg (arXiv 1602.05629).

    Example:
      >>> import optax
      >>> from sparsetrain import compress
      >>> tx = compress.local_steps(optax.sgd(1.0), 1, compress.sparse_binary(0.5))
      >>> run = message_training(lambda w, x: jnp.mean(x @ w), tx, workers=2)
      >>> batch = run.place(np.array([[3.0, 1.0], [5.0, 1.0]], np.float32))       # a row each
      >>> trained, _ = run.step(run.init(np.zeros(2, np.float32)), batch)
      >>> run.params(trained).tolist(), compress.report(trained.opt_state)["wire_bytes"]
      ([-4.0, 0.0], 56)
    """
    if not isinstance(tx, LocalSteps):
        raise TypeError(
            f"tx={type(tx).__name__}: give compress.local_steps(...), sbc(...) or stc(...) itself, not a chain"
        )
    count = jax.process_count() if workers is None else workers
    if count < 1 or count % jax.process_count():
        raise ValueError(
            f"workers={workers}: must be a multiple of the number of processes, {jax.process_count()}"
        )
    # One that wraps another has no collectives of its own; it only passes on what that one moves.
    compressor = tx.halves.compressor
    while hasattr(compressor, "up"):
        compressor = compressor.up
    if hasattr(compressor, "moved_bytes"):
        raise ValueError(
            f"compressor={type(compressor).__name__}: has collectives of its own, so that messages alone do not make "
            "its mean; use runtime.data_parallel"
        )
    return MessageTraining(loss, tx, count, gather)
