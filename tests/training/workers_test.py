"""Runs with several workers, simulated on one device."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from sparsetrain import data
from sparsetrain.training import build, loop, progress, stages, state
from sparsetrain.training.workers import Workers


def config(**compress):
    found = digits.get_config()
    found.epochs, found.eval_every, found.checkpoint_every, found.angle_examples = 2, 1, 1, 0
    found.workers, found.data.batch_size = 4, 32
    found.model.hidden = (8,)
    found.backward.rule = "dense"
    found.compress.update(compress)
    return found


def test_dense_exchange_is_one_worker_with_all_batches(tmp_path):
    together = loop.train_and_evaluate(config(name="dense"), tmp_path / "four")
    alone = config()
    alone.workers, alone.data.batch_size = 1, 128
    single = loop.train_and_evaluate(alone, tmp_path / "one")
    for four, one in zip(
        jax.tree.leaves(together.state.variables),
        jax.tree.leaves(single.state.variables),
        strict=True,
    ):
        assert four.shape == (4, *one.shape)
        np.testing.assert_array_equal(four, jnp.broadcast_to(four[0], four.shape))
        np.testing.assert_allclose(four[0], one, rtol=1e-4, atol=1e-5)
    assert together.summary["bits_sent"] == 4 * together.summary["steps"] * 32 * sum(
        leaf.size for leaf in jax.tree.leaves(single.state.variables)
    )


def test_a_run_that_is_cut_off_ends_the_same(tmp_path):
    settings = config(name="sparse_binary", density=0.05, every=3, momentum_masking="first")
    whole = loop.train_and_evaluate(settings, tmp_path / "whole")
    settings.epochs = 1
    loop.train_and_evaluate(settings, tmp_path / "cut")
    settings.epochs = 2
    (tmp_path / "cut" / "config.json").unlink()
    cut = loop.train_and_evaluate(settings, tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, whole.state.variables, cut.state.variables)
    assert whole.summary["moved_bytes"] == cut.summary["moved_bytes"] > 0


class Cut(progress.Silent):
    """Ends a run behind its second checkpoint, and keeps what it is told."""

    def __init__(self, step=None):
        self.step, self.texts = step, []

    def advance(self, step, metrics=None):
        if self.step is not None and step > self.step:
            raise KeyboardInterrupt

    def note(self, text):
        self.texts.append(text)


EXAMPLES = 1257  # 9 steps an epoch of four workers with 32 each, 19 of two.


def begun(tmp_path, settings, workers, epochs=2):
    """A run of some workers that has been cut off after so many epochs."""
    settings.epochs, settings.workers = 5, workers
    step = epochs * (EXAMPLES // (32 * workers))
    with pytest.raises(KeyboardInterrupt):
        loop.train_and_evaluate(settings, tmp_path, Cut(step))
    return step


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_other_workers_go_on_where_the_data_have_been_read_to(tmp_path, before, after):
    settings = config(name="sparse_binary", density=0.1, every=4, momentum_masking="first")
    settings.optimizer.learning_rate = 1e-2
    step = begun(tmp_path, settings, before)
    settings.workers, told = after, Cut()
    done = loop.train_and_evaluate(settings, tmp_path, told)
    assert told.texts[0].startswith(f"checkpoint {step} is of {before} workers, and {after} go on")
    assert stages.read(tmp_path) == [(0, 0, before), (step, 2, after)]
    assert json.loads((tmp_path / "config.json").read_text())["workers"] == after
    per_epoch = EXAMPLES // (32 * after)
    expected = [step // 2, step, *(step + n * per_epoch for n in (1, 2, 3))]
    assert [(line["epoch"], line["step"]) for line in done.history] == list(enumerate(expected, 1))
    losses = [line["train_loss"] for line in done.history]
    assert losses == sorted(losses, reverse=True)
    sent = [line["bits_sent"] for line in done.history]
    assert sent == sorted(sent) and sent[0] > 0
    assert all(leaf.shape[0] == after for leaf in jax.tree.leaves(done.state.variables))
    # Cut off once more, it ends the same; read back by others, it stays as it is.
    again = tmp_path / "again"
    shutil.copytree(tmp_path, again, ignore=lambda *_: ["again", str(expected[-1])])
    for workers in (after, 3):
        settings.workers = workers
        read = loop.train_and_evaluate(settings, again, Cut())
        assert read.history[-1]["train_loss"] == losses[-1]
        assert stages.read(again) == stages.read(tmp_path)
        if workers == after:
            jax.tree.map(np.testing.assert_array_equal, read.state[:3], done.state[:3])


def test_each_epoch_reads_every_example_once_whoever_reads(tmp_path):
    settings = config(name="dense")
    step = begun(tmp_path, settings, 4, epochs=1)
    settings.workers = 2
    run = loop._Run(settings, tmp_path, Cut())
    try:
        assert (run.start, run.stage) == (step, (step, 1, 2))
        key = state.data_key(run.state.key)
        order = np.asarray(run._order(key, 1))
        first = [order[(step + n) % run.per_epoch] for n in range(run.per_epoch)]
        wanted = np.asarray(data.epoch_permutation(key, 1, EXAMPLES))
        np.testing.assert_array_equal(np.concatenate(first), wanted[: order.size])
    finally:
        run.close()


def test_workers_whose_state_nobody_has_spoken_for_are_refused_and_nothing_is_changed(tmp_path):
    settings = config(name="sign", memory="no_memory")
    begun(tmp_path, settings, 4, epochs=1)

    def files():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    settings.workers = 2
    with pytest.raises(build.ConfigError, match=r"compressor/leaves/0 differs.*workers=4 again"):
        loop.train_and_evaluate(settings, tmp_path, Cut())
    assert files() == before
    settings.workers = 4
    assert loop.train_and_evaluate(settings, tmp_path, Cut()).summary["epochs"] == 5


def test_a_damaged_checkpoint_of_the_new_workers_gives_way_to_one_of_the_old(tmp_path):
    settings = config(name="top_k", density=0.1)
    step = begun(tmp_path, settings, 4, epochs=1)
    (tmp_path / stages.NAME).unlink()  # As older versions left it: the config has the number then.
    settings.workers = 2
    with pytest.raises(KeyboardInterrupt):
        loop.train_and_evaluate(settings, tmp_path, Cut(step + 19))
    last = tmp_path / "checkpoints" / str(step + 19)
    largest = max(last.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    largest.write_bytes(largest.read_bytes()[:-1])
    told = Cut()
    done = loop.train_and_evaluate(settings, tmp_path, told)
    assert "is not whole" in told.texts[0] and f"{step} is of 4 workers" in told.texts[1]
    assert stages.read(tmp_path) == [(0, 0, 4), (step, 1, 2)]
    assert [line["epoch"] for line in done.history] == [1, 2, 3, 4, 5]


def test_several_workers_exchange_something(tmp_path):
    with pytest.raises(build.ConfigError, match=r"compress\.name=dense"):
        loop.train_and_evaluate(config(), tmp_path)
    with pytest.raises(ValueError, match="workers=0"):
        build.workers(0)


def test_a_single_worker_has_no_axis():
    alone = Workers()
    tree = {"w": jnp.ones(2)}
    assert alone.axis_name is None and alone.stacked(tree) is tree and alone.own(tree) is tree
