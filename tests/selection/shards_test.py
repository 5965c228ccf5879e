"""Leaves in pieces on several devices: selected from as if they were whole, and never gathered."""

import jax
import jax.numpy as jnp
import pytest

from sparsetrain import compress, selection
from tests.devices import run_on_four
from tests.masks.registry import quick_jit
from tests.selection.four_shards import CHECKS


@pytest.fixture(scope="module")
def printed():
    """What the checks say."""
    done = run_on_four("tests.selection.four_shards")
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_on_four_devices(printed, name):
    assert f"passed: {name}\n" in printed, printed[-3000:]


def test_k_is_counted_over_all_shards():
    def find(values):
        return selection.top_k_masks([values], 7, "shards")

    with pytest.raises(ValueError, match=r"1\.\.6"):
        jax.vmap(find, axis_name="shards")(jnp.ones((2, 3)))
    each = jax.vmap(lambda v: selection.top_k_masks([v], 6, "shards")[1], axis_name="shards")
    assert quick_jit(each)(jnp.ones((2, 3))).tolist() == [[3], [3]]


def test_one_shard_may_hold_all_that_is_sent():
    compressor = compress.global_top_k(0.5, shards="shards")

    def sent(u):
        payload, _ = compressor.compress(u, compressor.init(u))
        return payload.values, payload.counts

    sent_by_each = quick_jit(jax.vmap(sent, axis_name="shards"))
    values, counts = sent_by_each(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    assert values.tolist() == [[0.0, 0.0], [3.0, 4.0]] and counts.tolist() == [[0], [2]]
