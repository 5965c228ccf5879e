"""Counts against NumPy; the pass keeps the form that XLA's CPU backend makes fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.kernels import pattern
from sparsetrain.selection import counting


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1000])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_counts(size: int, dtype) -> None:
    values = jax.random.normal(jax.random.key(size), (size,)).astype(dtype)
    thresholds = pattern.magnitude_patterns(jnp.array([0.0, 0.5, 1.0, 2.0, jnp.inf]))
    counts = jax.jit(counting.count_at_least)([values, values[None]], thresholds)
    wide = np.abs(np.asarray(values, np.float32))
    assert counts.tolist() == [2 * int((wide >= t).sum()) for t in (0, 0.5, 1, 2, np.inf)]


def test_full_groups_do_not_spill_into_the_next_field() -> None:
    counts = jax.jit(counting.count_at_least)([jnp.ones(64)], jnp.zeros((5,), jnp.int32))
    assert counts.tolist() == [64] * 5


def test_a_pass_reads_the_array_once_and_writes_a_32nd() -> None:
    values = jnp.ones((1 << 20) + 5)
    thresholds = jnp.zeros((5,), jnp.int32)
    compiled = jax.jit(lambda v, t: counting.count_at_least([v], t)).lower(values, thresholds)
    assert compiled.compile().memory_analysis().temp_size_in_bytes < 4 * values.size / 4


def test_merging_keeps_counts_and_a_sample_its_share() -> None:
    leaves = [jnp.ones(200_000), jnp.zeros((0,)), jnp.ones((3, 4)), 2 * jnp.ones(5, jnp.bfloat16)]
    merged = counting.merge_small(leaves)
    assert sorted(leaf.size for leaf in merged) == [17, 200_000]
    thresholds = pattern.magnitude_patterns(jnp.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    count = jax.jit(counting.count_at_least)
    np.testing.assert_array_equal(count(leaves, thresholds), count(merged, thresholds))
    assert abs(counting.sample(merged, 16).size - 12_500) < 64


def test_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="0 entries"):
        counting.total_size([jnp.zeros((0,))])
