"""Top-k through block maxima is exact: ties within and between blocks, any length."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import selection

take = jax.jit(selection.top_k_hierarchical, static_argnums=(1, 2))


@pytest.mark.parametrize(("size", "k", "block"), [(1, 1, 16), (4500, 30, 16), (4500, 4500, 7)])
def test_awkward_values(awkward_values, order, size: int, k: int, block: int) -> None:
    values = awkward_values(size)
    found, indices = take(jnp.asarray(values), k, block)
    np.testing.assert_array_equal(indices, np.sort(order(values)[:k]))
    np.testing.assert_array_equal(np.asarray(found).view(np.int32), values[indices].view(np.int32))


@hypothesis.given(
    values=st.lists(st.integers(-2, 2), min_size=11, max_size=11),
    k=st.sampled_from([1, 3]),
    block=st.sampled_from([2, 3]),
)
@hypothesis.settings(deadline=None, max_examples=100)
def test_ties_between_blocks(order, values: list[int], k: int, block: int) -> None:
    array = np.array(values, np.float32)
    _, indices = take(jnp.asarray(array), k, block)
    assert indices.tolist() == sorted(order(array)[:k].tolist())


def test_no_sort_and_no_heap() -> None:
    text = take.lower(jnp.ones(100_000), 50, 16).compile().as_text()
    assert " sort(" not in text and "TopK" not in text


def test_refusals() -> None:
    with pytest.raises(ValueError, match="block=0"):
        selection.top_k_hierarchical(jnp.ones(3), 1, 0)
    with pytest.raises(ValueError, match="k=0"):
        selection.top_k_hierarchical(jnp.ones(3), 0)
