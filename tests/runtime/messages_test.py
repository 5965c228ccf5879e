"""Local steps over messages: the numbers of `compress.local_steps`, the bytes of the codec."""

import contextlib
import functools
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress, runtime, wire
from sparsetrain.runtime.byte_gather import gather_bytes, slot_bytes
from tests.runtime.conftest import SECONDS
from tests.runtime.message_training import (
    METHODS,
    TOGETHER,
    WORKERS,
    Recorder,
    batches,
    begin,
    loss,
    start,
    train,
)


def simulated(name):
    """The same by `compress.local_steps` under `vmap`, message by message in fixed shapes."""
    (tx, steps), workers = METHODS[name](), WORKERS[name]

    def step(params, state, batch):
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda leaf: np.stack([leaf] * workers), begin(name))
    state = jax.vmap(tx.init)(params)
    step = jax.jit(jax.vmap(step, axis_name="workers"))
    for batch in batches(workers, steps):
        rows = jax.tree.map(lambda leaf: leaf.reshape(workers, -1, *leaf.shape[1:]), batch)
        params, state = step(params, state, rows)
    return runtime.Trained(params, state)


@functools.cache
def here(name):
    """What this process comes to alone; the messages; what trained."""
    recorder = Recorder()
    run = start(name, gather=recorder)
    return train(name, run), tuple(recorder.rounds), run


@pytest.mark.parametrize("name", METHODS)
def test_simulated_workers_do_what_local_steps_do(name):
    trained, rounds, _ = here(name)
    expected = simulated(name)
    # The programs differ in where they are cut, so that the compiler may round a product in one alone.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
        trained._replace(opt_state=trained.opt_state._replace(ledger=())),
        expected._replace(opt_state=expected.opt_state._replace(ledger=())),
    )
    for leaf in jax.tree.leaves(trained.opt_state.anchor):
        assert (np.asarray(leaf) == np.asarray(leaf)[0]).all()
    tx, steps = METHODS[name]()
    assert len(rounds) == steps // tx.halves.every
    # The ledger has what was sent to the byte, and compress.local_steps had counted the same without a codec.
    found, counted = (compress.report(each.opt_state) for each in (trained, expected))
    sent = sum(len(message) for each in rounds for message in each.messages)
    assert found.pop("wire_bytes") == counted.pop("wire_bytes") == sent > 0
    workers = WORKERS[name]
    moved = sum(workers * (workers - 1) * each.carried for each in rounds)
    assert found.pop("moved_bytes") == moved >= (workers - 1) * sent
    counted.pop("moved_bytes")
    assert found == counted


def test_a_lossless_codec_changes_no_bit(monkeypatch):
    """The same halves with payloads that never become bytes."""
    trained, _, run = here("stc")
    coded = trained.opt_state
    kept = []

    def keep(payloads):
        kept.append(payloads)
        return b"%d" % (len(kept) - 1)

    monkeypatch.setattr(wire, "encode", keep)
    monkeypatch.setattr(wire, "decode", lambda message, like: kept[int(message)])
    plain = train("stc", run).opt_state
    assert len(kept) == 4 * WORKERS["stc"]
    jax.tree.map(
        np.testing.assert_array_equal, coded._replace(ledger=()), plain._replace(ledger=())
    )


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """A folder of what two real processes have come to; none of them outlives it."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.runtime.message_training"]
    flags = "--xla_force_host_platform_device_count=2"
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context((folder / f"{n}.log").open("w+")) for n in range(2)]
        processes = [
            subprocess.Popen(
                [*command, str(number), str(port), str(folder)],
                cwd=Path(__file__).parents[2],
                env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for number, log in enumerate(logs)
        ]
        end = time.monotonic() + SECONDS
        try:
            codes = [process.wait(max(0, end - time.monotonic())) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert codes == [0, 0], [(folder / f"{n}.log").read_text() for n in range(2)]
    return folder


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_do_what_one_does(two_processes, name):
    parts = [np.load(two_processes / f"{name}-{number}.npz") for number in range(2)]
    alone = jax.tree.leaves(here(name)[0])
    for file, leaf in zip(parts[0].files, alone, strict=True):
        together = np.concatenate([part[file] for part in parts])
        if np.issubdtype(together.dtype, np.integer):
            np.testing.assert_array_equal(together, leaf)  # Ledgers are among them.
        else:
            np.testing.assert_allclose(together, leaf, rtol=2e-5, atol=2e-6)


class Damage:
    """Carries messages, the last of them changed."""

    change = staticmethod(lambda message: message)

    def __call__(self, messages):
        gathered = gather_bytes(messages)
        *others, last = gathered.messages
        return gathered._replace(messages=[*others, *self.change(last)])


@pytest.fixture(scope="module")
def damaged():
    damage = Damage()
    return damage, start("sbc 1", gather=damage)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda message: [message[:-1]], "it was cut"),
        (lambda message: [message[:5]], "5 bytes"),
        (lambda message: [message[:-1] + bytes([message[-1] ^ 1])], "checksum"),
        (lambda message: [bytes(30)], "no message of ours"),
        (lambda message: [], "1 messages of 2"),
    ],
)
def test_a_damaged_message_names_its_sender(damaged, change, reason):
    damage, run = damaged
    damage.change = change
    sender = r"message of worker 1 \(process 0\) at step 1: " if change(b"?") else ""
    with pytest.raises(wire.WireError, match=sender + f".*{reason}"):
        run.step(run.init(begin("sbc 1")), run.place(next(batches(2, 1))))


def test_few_lengths_are_compiled_for():
    slots = {slot_bytes(longest) for longest in range(1024, 2049)}
    assert len(slots) == 9
    assert all(n <= slot_bytes(n) <= 1.126 * n for n in range(1, 5000))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: runtime.message_training(loss, optax.sgd(1.0)),
            TypeError,
            r"give compress.local_steps\(...\)",
        ),
        (lambda: runtime.message_training(loss, METHODS["stc"]()[0], 0), ValueError, "workers=0"),
        (
            lambda: runtime.message_training(
                loss, compress.local_steps(optax.sgd(1.0), 1, compress.leader_top_k(0.1))
            ),
            ValueError,
            "collectives of its own",
        ),
    ],
)
def test_errors_name_the_cure(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_simulated_workers_keep_their_convolutions_apart():
    """One convolution with a group a worker would take several times as long, see benchmarks/workers.py."""

    def loss(params, batch):
        return jnp.mean(jax.lax.conv(batch, params["kernel"], (1, 1), "SAME") ** 2)

    tx = METHODS["sbc 10"]()[0]
    run = runtime.message_training(loss, tx, 3)
    trained = run.init({"kernel": jnp.ones((2, 1, 3, 3))})
    # Not public: what `step` runs between two exchanges.
    walk = run._device.walk.lower(trained, jnp.ones((3, 2, 1, 4, 4))).as_text()
    groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", walk)
    assert groups and set(groups) == {"1"}
