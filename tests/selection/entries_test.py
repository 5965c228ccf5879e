"""Lists of the largest entries: the same choice as the masks, whichever way is taken."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import selection
from sparsetrain.selection import entries

take = jax.jit(selection.top_k_entries, static_argnums=1)
take_of = jax.jit(selection.top_k_entries_of, static_argnums=1)

HEAP = (9001, 20)
BLOCKS = (entries.HEAP_SIZE + 5, 300)
COUNTING = (entries.HEAP_SIZE + 5, 3000)


@pytest.mark.parametrize(("size", "k"), [(1, 1), HEAP, (9001, 5000), (700, 700), BLOCKS, COUNTING])
def test_entries_of_awkward_values(awkward_values, order, size: int, k: int) -> None:
    values = awkward_values(size)
    found, indices = take(jnp.asarray(values), k)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices, np.sort(order(values)[:k]))
    np.testing.assert_array_equal(np.asarray(found).view(np.int32), values[indices].view(np.int32))


@jax.jit  # traced, once, by the next test
def by_counting(values):
    return selection.top_k_entries(values, BLOCKS[1])


def test_block_maxima_by_counting_where_the_array_is_large(
    awkward_values, order, monkeypatch
) -> None:
    monkeypatch.setattr(entries, "HIERARCHY_SIZE", entries.HEAP_SIZE)
    values = awkward_values(BLOCKS[0])
    _, indices = by_counting(jnp.asarray(values))
    np.testing.assert_array_equal(indices, np.sort(order(values)[: BLOCKS[1]]))


@pytest.mark.parametrize(("size", "k"), [HEAP, BLOCKS, COUNTING])
def test_sorts_nothing_but_the_chosen(size: int, k: int) -> None:
    text = take.lower(jnp.ones(size), k).compile().as_text()
    sorted_shapes = re.findall(r"= \(?\w+\[([\d,]*)\]\S* sort\(", text)
    assert all(shape == str(k) for shape in sorted_shapes)
    assert len(sorted_shapes) == len(re.findall(r" sort\(", text))


@pytest.mark.parametrize(("size", "k"), [HEAP, BLOCKS])
def test_compiles_to_little(size: int, k: int) -> None:
    """A model has hundreds of tensors; counting takes ten times as much code."""
    assert len(take.lower(jnp.ones(size), k).compile().as_text()) < 40_000


@pytest.mark.parametrize("k", [1, 50, 3000, 9000])
def test_entries_of_leaves(awkward_values, order, k: int) -> None:
    values = awkward_values(9000)
    cuts = [0, 1, 1, 40, 6000, 9000]  # one is empty, one longer than a chunk
    leaves = [values[a:b] for a, b in itertools.pairwise(cuts)]
    leaves[3] = leaves[3].reshape(-1, 10)
    found, indices, counts = take_of([jnp.asarray(leaf) for leaf in leaves], k)
    chosen = np.sort(order(*leaves)[:k])
    leaf_of = np.searchsorted(cuts, chosen, side="right") - 1
    np.testing.assert_array_equal(counts, np.bincount(leaf_of, minlength=len(leaves)))
    np.testing.assert_array_equal(indices, chosen - np.array(cuts)[leaf_of])
    np.testing.assert_array_equal(np.asarray(found).view(np.int32), values[chosen].view(np.int32))


def test_shapes_stay_while_counts_move() -> None:
    traces = []

    @jax.jit
    def traced(leaves):
        traces.append(0)
        return selection.top_k_entries_of(leaves, 3)[2]

    ones, twos = jnp.ones(5), 2 * jnp.ones(2)
    assert traced([ones, twos]).tolist() == [1, 2]
    assert traced([3 * ones, twos]).tolist() == [3, 0]
    assert len(traces) == 1


def test_dtypes() -> None:
    found, _ = take(jnp.array([1.0, -2.0], jnp.bfloat16), 1)
    assert found.dtype == jnp.bfloat16 and found.tolist() == [-2.0]
    leaves = [jnp.array([1.0], jnp.bfloat16), jnp.array([[2.0]], jnp.float32)]
    found, _, counts = take_of(leaves, 2)
    assert found.dtype == jnp.float32 and found.tolist() == [1.0, 2.0] and counts.tolist() == [1, 1]


def test_vmap_and_gradient() -> None:
    rows = jax.random.normal(jax.random.key(0), (3, 200))
    found, indices = jax.jit(jax.vmap(lambda row: selection.top_k_entries(row, 40)))(rows)
    np.testing.assert_array_equal(found, jnp.take_along_axis(rows, indices, 1))
    mask = np.zeros((3, 200), bool)
    np.put_along_axis(mask, np.asarray(indices), True, axis=1)
    np.testing.assert_array_equal(mask, selection.top_k_mask(rows, 40))
    grad = jax.jit(jax.grad(lambda row: selection.top_k_entries(row, 40)[0].sum()))(rows[0])
    np.testing.assert_array_equal(grad, mask[0].astype(np.float32))


def test_k_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"k=4: must lie in 1\.\.3"):
        selection.top_k_entries(jnp.ones(3), 4)
