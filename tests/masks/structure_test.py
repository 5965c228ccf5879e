import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks
from sparsetrain.masks.structure import as_matrix, from_matrix, keep_largest


def test_a_kernel_as_a_matrix_and_back():
    kernel = jnp.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    matrix = as_matrix(kernel)
    assert matrix.shape == (5, 24)
    np.testing.assert_array_equal(matrix[2], kernel[..., 2].ravel())
    np.testing.assert_array_equal(from_matrix(matrix, kernel.shape), kernel)


def test_blocks_that_do_not_divide_are_smaller_at_the_end():
    """5 outputs and 7 inputs in blocks of 2 x 3: the last ones are 1 wide."""
    structure = masks.block(2, 3)
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.standard_normal((7, 5)), jnp.float32)
    assert structure.units((7, 5)) == 9
    padded = np.zeros((6, 9), np.float32)
    padded[:5, :7] = np.abs(np.asarray(weights)).T
    sums = padded.reshape(3, 2, 3, 3).sum((1, 3)).ravel()
    np.testing.assert_allclose(structure.scores(weights), sums, rtol=1e-5)
    mask = np.asarray(keep_largest({"w": weights}, structure, [4])["w"])
    best = np.zeros(9, bool)
    best[np.argsort(-sums)[:4]] = True
    whole = np.repeat(np.repeat(best.reshape(3, 3), 2, 0), 3, 1)[:5, :7]
    np.testing.assert_array_equal(mask, whole.T)


def test_a_block_larger_than_the_layer_is_the_layer():
    mask = keep_largest({"w": jnp.ones((2, 3))}, masks.block(8, 8), [1])["w"]
    assert bool(mask.all())


def test_n_of_m_ties_keep_the_first():
    equal = keep_largest({"w": jnp.ones((8, 1))}, masks.n_m(2, 4), [4])["w"]
    assert equal.ravel().astype(int).tolist() == [1, 1, 0, 0] * 2


def test_bad_structures_name_the_argument_and_the_cure():
    for rows, columns in ((0, 8), (1, 0)):
        with pytest.raises(ValueError, match=f"rows={rows}, columns={columns}: must both be"):
            masks.block(rows, columns)
    for n, m in ((0, 4), (4, 4), (5, 4)):
        with pytest.raises(ValueError, match=f"n={n}, m={m}: must hold"):
            masks.n_m(n, m)
    tx = masks.static(
        optax.sgd(0.1), 0.5, scores={"w": jnp.ones((6, 4))}, structure=masks.n_m(2, 4)
    )
    with pytest.raises(ValueError, match=r"groups of 4 do not divide the 6 inputs of w; .* dense="):
        tx.init({"w": jnp.ones((6, 4))})
