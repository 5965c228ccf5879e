"""Workers that have nothing finite to say, and states that come from elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress, runtime
from tests.runtime.message_training import Recorder


def linear(tx, rows, steps=1, **options):
    """Workers whose gradients are rows at the first step, and ones afterwards."""
    run = runtime.message_training(lambda w, x: jnp.vdot(w, x[0]), tx, len(rows), **options)
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
    sent = [len(message) for message in recorder.rounds[0].messages]
    assert [size > 0 for size in sent] == [True, False, True]
    # Gradients g and 1 with momentum: a way of g + (1 + g / 2).
    np.testing.assert_allclose(run.params(trained), -(1.5 * rows[[0, 2]].mean(0) + 1), rtol=1e-6)
    assert trained.opt_state.nonfinite.tolist() == [0, 1, 0]
    assert trained.opt_state.ledger.wire_bytes.low.tolist() == sent
    np.testing.assert_array_equal(trained.params[1], trained.opt_state.anchor[1])
    for _ in range(2):
        trained, _ = run.step(trained, run.place(np.ones_like(rows)))
    assert all(len(message) > 0 for message in recorder.rounds[1].messages)
    assert trained.opt_state.nonfinite.tolist() == [0, 1, 0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))


def test_nobody_speaks():
    rows = np.full((2, 3), np.nan, np.float32)
    tx = compress.local_steps(optax.sgd(1.0), 1, compress.sparse_binary(0.5))
    run, trained = linear(tx, rows)
    assert run.params(trained).tolist() == [0, 0, 0]
    report = compress.report(trained.opt_state)
    assert report["wire_bytes"] == 0 and report["moved_bytes"] == 2 * 4


NOTHING = {
    "binary": lambda: compress.sparse_binary(0.25),
    "ternary": lambda: compress.sparse_ternary(0.25),
    "top_k": lambda: compress.top_k(1e-9),
    "global": lambda: compress.global_top_k(1e-9),
    "threshold": lambda: compress.hard_threshold(1e9),
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("speaking", [1, 0])
def test_who_has_nothing_to_say_is_heard_all_the_same(name, speaking):
    """Zeros are finite: a message of them comes, and the mean is over all."""
    rows = np.zeros((3, 8), np.float32)
    rows[:speaking] = np.arange(1, 9)
    recorder = Recorder()
    tx = compress.local_steps(optax.sgd(1.0), 1, NOTHING[name]())
    run, trained = linear(tx, rows, gather=recorder)
    assert all(len(message) > 0 for message in recorder.rounds[0].messages)
    assert trained.opt_state.nonfinite.tolist() == [0, 0, 0]
    # Whatever was not sent is still there.
    residual = np.asarray(trained.opt_state.memory.residual)
    np.testing.assert_allclose(run.params(trained) + residual.mean(0), -rows.mean(0), rtol=1e-5)
    assert not residual[speaking:].any()
    if name == "threshold":
        np.testing.assert_array_equal(residual, -rows)
    trained, _ = run.step(trained, run.place(np.zeros_like(rows)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))


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
    tx = compress.local_steps(optax.sgd(1.0), 2, compress.top_k(1.0))
    run, trained = linear(tx, np.ones((2, 3), np.float32))
    restored = jax.tree.map(np.array, trained)
    ones = run.place(np.ones((2, 3), np.float32))
    for _ in range(2):
        trained, _ = run.step(trained, ones)
    assert (
        run.params(trained).tolist() == [-2.0] * 3 and trained.params.tolist() == [[-3.0] * 3] * 2
    )
    again, _ = run.step(restored, ones)
    assert again.opt_state.step.tolist() == [2, 2]
    assert run.params(again).tolist() == [-2.0] * 3
