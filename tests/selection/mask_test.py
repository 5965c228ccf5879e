"""Masks of whole arrays and of leaves: exactly k, ties to the lower index."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import selection
from sparsetrain.selection import threshold

mask_of = jax.jit(selection.top_k_mask_flat)
masks_of = jax.jit(selection.top_k_masks)


def some_counts(size: int) -> list[int]:
    return sorted({1, min(size, 2), max(1, size // 100), max(1, size // 3), size})


@pytest.mark.parametrize("size", [1, 33, 4500])
def test_mask_of_awkward_values(awkward_values, expected_mask, size: int) -> None:
    values = awkward_values(size)
    for k in some_counts(size):
        got = np.asarray(mask_of(jnp.asarray(values), k))
        np.testing.assert_array_equal(got, expected_mask([values], k), f"k={k}")


def test_mask_of_a_large_array(awkward_values, expected_mask) -> None:
    values = awkward_values(threshold.LEAST_SAMPLED + 13)
    for k in (0, 1, 600, 60_000):
        got = np.asarray(mask_of(jnp.asarray(values), k))
        np.testing.assert_array_equal(got, expected_mask([values], k), f"k={k}")


def test_masks_of_leaves(awkward_values, expected_mask) -> None:
    values = awkward_values(5000)
    leaves = [values[:1].reshape(()), values[1:1], values[1:4321].reshape(30, 144), values[4321:]]
    for k in [0, *some_counts(5000)]:
        masks, counts = masks_of([jnp.asarray(leaf) for leaf in leaves], k)
        assert [mask.shape for mask in masks] == [leaf.shape for leaf in leaves]
        flat = np.concatenate([np.asarray(mask).reshape(-1) for mask in masks])
        np.testing.assert_array_equal(flat, expected_mask(leaves, k), f"k={k}")
        assert counts.tolist() == [int(mask.sum()) for mask in masks]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("k", [1, 100, 999])
def test_equals_a_row_of_top_k_mask(dtype, k: int) -> None:
    values = jax.random.normal(jax.random.key(0), (999,)).astype(dtype)
    np.testing.assert_array_equal(mask_of(values, k), selection.top_k_mask(values, k))


def test_shape_vmap_and_gradient() -> None:
    values = jax.random.normal(jax.random.key(0), (3, 8, 10))
    assert mask_of(values, 5).shape == values.shape
    each = jax.jit(jax.vmap(selection.top_k_mask_flat, (0, None)))(jnp.round(values), 7)
    expected = selection.top_k_mask(jnp.round(values).reshape(3, 80), 7)
    np.testing.assert_array_equal(each.reshape(3, 80), expected)
    grad = jax.grad(lambda v: jnp.sum(jnp.where(mask_of(v, 3), v, 0)))(values)
    np.testing.assert_array_equal(grad, mask_of(values, 3).astype(jnp.float32))


def test_no_sort_no_heap_no_copy() -> None:
    values = jnp.ones(((1 << 20) + 5,))
    compiled = mask_of.lower(values, 5).compile()
    assert " sort(" not in compiled.as_text() and "TopK" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < values.size


def test_a_traced_k_compiles_once() -> None:
    traces = []

    @jax.jit
    def traced(leaves, k):
        traces.append(k)
        return selection.top_k_masks(leaves, k)[1]

    leaves = [jnp.arange(6.0), jnp.arange(3.0)]
    assert [traced(leaves, k).tolist() for k in (0, 3, 99)] == [[0, 0], [3, 0], [6, 3]]
    assert len(traces) == 1


def test_k_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"k=10: must lie in 1\.\.9"):
        selection.top_k_masks([jnp.ones(6), jnp.ones(3)], 10)
