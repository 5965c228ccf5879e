"""Rank and select on packed masks against NumPy."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import selection
from sparsetrain.selection import words

compact = jax.jit(selection.compact, static_argnums=1)


def expected(mask: np.ndarray, k: int) -> np.ndarray:
    found = np.flatnonzero(mask)[:k]
    return np.concatenate([found, np.full(k - found.size, mask.size)])


@hypothesis.given(
    size=st.sampled_from([1, 32, 33, 100]),
    k=st.sampled_from([1, 40]),
    share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    seed=st.integers(0, 5),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_compact(size: int, k: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(size) < share
    np.testing.assert_array_equal(compact(jnp.asarray(mask), k), expected(mask, k))


@pytest.mark.parametrize("share", [0.0, 1e-5, 1e-3, 0.3, 1.0])
@pytest.mark.parametrize("k", [1, 500, 50_000])
def test_compact_through_levels(share: float, k: int) -> None:
    mask = np.random.default_rng(1).random(300_007) < share
    np.testing.assert_array_equal(compact(jnp.asarray(mask), k), expected(mask, k))


def test_compact_of_runs() -> None:
    mask = np.zeros(300_000, bool)
    mask[100_000:104_000] = True
    got = compact(jnp.asarray(mask.reshape(300, 1000)), 4001)
    np.testing.assert_array_equal(got, expected(mask, 4001))


def test_compact_is_no_full_scan_and_no_sort() -> None:
    mask = jnp.zeros((1 << 20,), bool)
    text = jax.jit(lambda m: selection.compact(m, 1000)).lower(mask).compile().as_text()
    assert " sort(" not in text
    assert "s32[1048576]" not in text  # no running sum or scatter over all entries


def test_compact_needs_a_length() -> None:
    with pytest.raises(ValueError, match="k=0"):
        selection.compact(jnp.ones(3, bool), 0)


@pytest.mark.parametrize("size", [40, 5000, 200_000])
def test_select(size: int) -> None:
    mask = np.random.default_rng(2).random(size) < 0.1
    packed = words.pack(jnp.asarray(mask))
    found = np.flatnonzero(mask)
    select = jax.jit(words.select)
    for rank in (1, 2, found.size // 2, found.size):
        assert int(select(packed, jnp.int32(rank))) == found[rank - 1]


@pytest.mark.parametrize("size", [1, 32, 33, 5000, 140_000])
def test_running_sum(size: int) -> None:
    counts = np.random.default_rng(3).integers(0, 33, size).astype(np.int32)
    np.testing.assert_array_equal(
        jax.jit(words.running_sum)(jnp.asarray(counts)), np.cumsum(counts)
    )
