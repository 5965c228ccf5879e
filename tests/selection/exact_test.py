"""Exact top-k against NumPy: exactly k, ties to the lower index, every dtype."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import selection


def numpy_mask(row: np.ndarray, k: int) -> np.ndarray:
    order = np.argsort(-np.abs(row), kind="stable")[:k]
    mask = np.zeros(row.shape, bool)
    mask[order] = True
    return mask


# methods.md 1.2: how many entries public implementations keep.
@pytest.mark.parametrize(
    ("entries", "density", "rounding", "expected"),
    [
        (997, 0.2, "round", 199),
        (997, 0.2, "floor", 199),
        (997, 0.2, "ceil", 200),
        (997, 0.1, "round", 100),
        (997, 0.1, "floor", 99),
        (1001, 0.015, "round", 15),
        (1001, 0.015, "ceil", 16),
        (36864, 0.1, "round", 3686),
        (36864, 0.1, "ceil", 3687),
        (10, 0.001, "round", 1),
        (10, 1.0, "ceil", 10),
        (500, 0.04, "round", 20),
        (5, 0.5, "round", 2),  # half to even
    ],
)
def test_count(entries: int, density: float, rounding: str, expected: int) -> None:
    assert selection.count(entries, density, rounding) == expected


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_count_refuses_density(density: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        selection.count(10, density)


def test_count_refuses_nothing_and_unknown_rounding() -> None:
    with pytest.raises(ValueError, match="empty"):
        selection.count(0, 0.5)
    with pytest.raises(ValueError, match="rounding='up'"):
        selection.count(3, 0.5, "up")


def test_count_refuses_a_traced_density() -> None:
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda density: selection.count(10, density))(0.5)


@hypothesis.given(
    values=st.lists(
        st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0]), min_size=1, max_size=24
    ),
    data=st.data(),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_mask_equals_stable_sort(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    row = np.array(values, np.float32)
    mask = np.asarray(selection.top_k_mask(jnp.asarray(row), k))
    np.testing.assert_array_equal(mask, numpy_mask(row, k))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_mask_of_a_batch_keeps_exactly_k(dtype: jnp.dtype) -> None:
    values = jax.random.normal(jax.random.key(0), (3, 5, 40), dtype)
    mask = selection.top_k_mask(values, 7)
    assert mask.shape == values.shape
    np.testing.assert_array_equal(mask.sum(-1), np.full((3, 5), 7))
    expected = [[numpy_mask(np.asarray(r, np.float32), 7) for r in rows] for rows in values]
    np.testing.assert_array_equal(mask, expected)


def test_nan_counts_as_largest() -> None:
    assert selection.top_k_columns(jnp.array([1.0, jnp.nan, 3.0]), 1).tolist() == [1]


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k}: must lie in 1..3"):
        selection.top_k_columns(jnp.zeros((2, 3)), k)
