"""Local steps over messages: the numbers of `compress.local_steps`, the bytes of the codec."""

import contextlib
import os
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
from tests.runtime.message_training import METHODS, TOGETHER, batches, begin, loss, train

WORKERS = 4


def simulated(name, workers=WORKERS):
    """The same by `compress.local_steps` under `vmap`, message by message in fixed shapes."""
    tx, steps = METHODS[name]()

    def step(params, state, batch):
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda leaf: np.stack([leaf] * workers), begin())
    state = jax.vmap(tx.init)(params)
    step = jax.jit(jax.vmap(step, axis_name="workers"))
    for batch in batches(workers, steps):
        rows = jax.tree.map(lambda leaf: leaf.reshape(workers, -1, *leaf.shape[1:]), batch)
        params, state = step(params, state, rows)
    return runtime.Trained(params, state)


class Recorder:
    """Carries messages and keeps them."""

    def __init__(self):
        self.rounds = []

    def __call__(self, messages):
        gathered = gather_bytes(messages)
        self.rounds.append(gathered)
        return gathered


@pytest.mark.parametrize("name", METHODS)
def test_simulated_workers_do_what_local_steps_do(name):
    recorder = Recorder()
    _, trained = train(name, WORKERS, gather=recorder)
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
    assert len(recorder.rounds) == steps // tx.halves.every
    # The ledger has what was sent to the byte, and compress.local_steps had counted the same without a codec.
    found, counted = (compress.report(each.opt_state) for each in (trained, expected))
    sent = sum(len(message) for each in recorder.rounds for message in each.messages)
    assert found.pop("wire_bytes") == counted.pop("wire_bytes") == sent > 0
    moved = sum(WORKERS * (WORKERS - 1) * each.carried for each in recorder.rounds)
    assert found.pop("moved_bytes") == moved >= (WORKERS - 1) * sent
    counted.pop("moved_bytes")
    assert found == counted


def test_a_lossless_codec_changes_no_bit(monkeypatch):
    """The same halves with payloads that never become bytes."""
    coded = train("stc", WORKERS)[1].opt_state
    kept = []

    def keep(payloads):
        kept.append(payloads)
        return b"%d" % (len(kept) - 1)

    monkeypatch.setattr(wire, "encode", keep)
    monkeypatch.setattr(wire, "decode", lambda message, like: kept[int(message)])
    plain = train("stc", WORKERS)[1].opt_state
    assert len(kept) == 4 * WORKERS
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
        end = time.monotonic() + 60
        try:
            codes = [process.wait(max(0, end - time.monotonic())) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert codes == [0, 0], [(folder / f"{n}.log").read_text() for n in range(2)]
    return folder


@pytest.mark.parametrize(("name", "workers"), TOGETHER)
def test_two_processes_do_what_one_does(two_processes, name, workers):
    parts = [np.load(two_processes / f"{name}-{workers}-{number}.npz") for number in range(2)]
    alone = jax.tree.leaves(train(name, workers)[1])
    for file, leaf in zip(parts[0].files, alone, strict=True):
        together = np.concatenate([part[file] for part in parts])
        if np.issubdtype(together.dtype, np.integer):
            np.testing.assert_array_equal(together, leaf)  # Ledgers are among them.
        else:
            np.testing.assert_allclose(together, leaf, rtol=2e-5, atol=2e-6)


def broken(change):
    def gather(messages):
        gathered = gather_bytes(messages)
        messages = list(gathered.messages)
        messages[2] = change(messages[2])
        return gathered._replace(messages=messages)

    return gather


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda message: message[:-1], "it was cut"),
        (lambda message: message[:5], "5 bytes"),
        (lambda message: message[:-1] + bytes([message[-1] ^ 1]), "checksum"),
        (lambda message: bytes(30), "no message of ours"),
    ],
)
def test_a_damaged_message_names_its_sender(change, reason):
    with pytest.raises(
        wire.WireError, match=rf"message of worker 2 \(process 0\) at step 1: .*{reason}"
    ):
        train("sbc 1", WORKERS, gather=broken(change))


def test_a_message_too_few():
    with pytest.raises(wire.WireError, match="3 messages of 4"):
        train("sbc 1", WORKERS, gather=lambda messages: gather_bytes(messages[1:]))


def linear(tx, rows, workers=3, steps=1, **options):
    """Workers whose gradients are rows of the first batch; zeros afterwards."""
    run = runtime.message_training(lambda w, x: jnp.vdot(w, x[0]), tx, workers, **options)
    trained = run.init(np.zeros(rows.shape[1], np.float32))
    for step in range(steps):
        trained, _ = run.step(trained, run.place(rows if step == 0 else np.ones_like(rows)))
    return run, trained


def test_who_is_not_finite_is_left_out_counted_and_comes_back():
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    rows[1, 2] = np.nan
    tx = compress.local_steps(optax.sgd(1.0, momentum=0.5), 2, compress.top_k(1.0))
    recorder = Recorder()
    run, trained = linear(tx, rows, steps=2, gather=recorder)
    assert [len(message) > 0 for message in recorder.rounds[0].messages] == [True, False, True]
    # Gradients g and 1 with momentum: a way of g + (1 + g / 2).
    expected = -(1.5 * rows[[0, 2]].mean(0) + 1)
    np.testing.assert_allclose(run.params(trained), expected, rtol=1e-6)
    assert trained.opt_state.nonfinite.tolist() == [0, 1, 0]
    sent = [len(message) for message in recorder.rounds[0].messages]
    assert trained.opt_state.ledger.wire_bytes.low.tolist() == sent
    np.testing.assert_array_equal(trained.params[1], trained.opt_state.anchor[1])
    run, trained = linear(tx, rows, steps=4)
    assert trained.opt_state.nonfinite.tolist() == [0, 1, 0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))


def test_nobody_speaks():
    rows = np.full((2, 3), np.nan, np.float32)
    tx = compress.local_steps(optax.sgd(1.0), 1, compress.sparse_binary(0.5))
    run, trained = linear(tx, rows, workers=2)
    assert run.params(trained).tolist() == [0, 0, 0]
    report = compress.report(trained.opt_state)
    assert report["wire_bytes"] == 0 and report["moved_bytes"] == 2 * 4


def test_the_servers_residual_is_not_scaled_when_somebody_is_silent():
    """Conservation: anchor + R + mean residual of those who spoke is the mean of what they fed."""
    rows = np.random.default_rng(3).standard_normal((3, 8)).astype(np.float32)
    rows[1, 2] = np.inf
    run, trained = linear(compress.stc(0.25, optax.sgd(1.0)), rows)
    server = trained.opt_state.compressor.residual[0]
    total = (
        run.params(trained) + server + trained.opt_state.memory.residual[np.array([0, 2])].mean(0)
    )
    np.testing.assert_allclose(total, -rows[[0, 2]].mean(0), rtol=1e-5, atol=1e-6)


def test_steps_are_counted_from_a_restored_state():
    tx, _ = METHODS["fedavg"]()
    run = runtime.message_training(loss, tx, 2)
    trained = run.init(begin())
    seen = list(batches(2, 3))
    for batch in seen[:2]:
        trained, _ = run.step(trained, run.place(batch))
    restored = jax.tree.map(np.array, trained)
    other = runtime.message_training(loss, tx, 2)
    states = [
        each.step(t, each.place(seen[2]))[0] for each, t in ((run, trained), (other, restored))
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert int(states[0].opt_state.ledger.wire_bytes.low[0]) > 0


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
