"""Runs with several workers, simulated on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from sparsetrain.training import build, loop
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


def test_several_workers_exchange_something(tmp_path):
    with pytest.raises(build.ConfigError, match=r"compress\.name=dense"):
        loop.train_and_evaluate(config(), tmp_path)
    with pytest.raises(ValueError, match="workers=0"):
        build.workers(0)


def test_a_single_worker_has_no_axis():
    alone = Workers()
    tree = {"w": jnp.ones(2)}
    assert alone.axis_name is None and alone.stacked(tree) is tree and alone.own(tree) is tree
