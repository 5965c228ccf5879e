import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward
from sparsetrain.backward.pairs import UNROLLED, Pairs, input_gradient, kernel_gradient

ROWS, INPUTS, COLUMNS = 6, 7, 40


def example(terms, dtype=jnp.float32):
    """Entries of random rows, some columns chosen by several rows, and the same as a dense matrix."""
    rng = np.random.default_rng(terms)
    values = rng.standard_normal((ROWS, terms))
    places = np.stack([rng.permutation(COLUMNS)[:terms] for _ in range(ROWS)])
    dense = np.zeros((ROWS, COLUMNS))
    np.put_along_axis(dense, places, values, axis=1)
    x, kernel = rng.standard_normal((ROWS, INPUTS)), rng.standard_normal((COLUMNS, INPUTS))
    pairs = Pairs(jnp.asarray(values, dtype), jnp.asarray(places, jnp.int32))
    return pairs, dense, x, kernel


@pytest.mark.parametrize("terms", [1, UNROLLED, UNROLLED + 1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_both_gradients_equal_dense_products(terms, dtype):
    pairs, dense, x, kernel = example(terms, dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    if dtype == jnp.bfloat16:
        tolerance = {"rtol": 0.02, "atol": 0.02 * np.sqrt(terms)}
    dx = input_gradient(pairs, jnp.asarray(kernel, dtype))
    dkernel = kernel_gradient(pairs, jnp.asarray(x, dtype), COLUMNS)
    assert dx.dtype == dkernel.dtype == dtype
    np.testing.assert_allclose(dx.astype(float), dense @ kernel, **tolerance)
    np.testing.assert_allclose(dkernel.astype(float), dense.T @ x, **tolerance)


def test_what_is_not_finite_stays_in_its_row():
    """A dense product would spread it: zero times infinity is NaN."""
    pairs, dense, x, _ = example(2)
    x[3, 0] = np.inf
    untouched = np.flatnonzero(dense[3] == 0)
    dkernel = kernel_gradient(pairs, jnp.asarray(x, jnp.float32), COLUMNS)
    assert np.isfinite(dkernel[untouched]).all()
    assert np.isinf(dkernel[np.flatnonzero(dense[3]), 0]).all()


def layer(rule, axis):
    """dx, memory's increment and dW (as [I, O]) of a layer whose rows choose few of many columns."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((4, 24)), jnp.float32)
    g = jnp.asarray(rng.standard_normal((4, 64)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((24, 64)), jnp.float32)
    memory = rule.init((64,), 4)
    tap = None
    if axis is not None:
        tap = backward.row_sparse.RowSparse.tap(24, rule.width(64, 4), jnp.float32, axis)

    def product(x, kernel, memory, tap):
        numbers = (((1,), (0,)), ((), ()))
        return backward.sparse_dot_general(x, kernel, memory, numbers, rule, tap=tap)

    dx, dkernel, increment, dtap = jax.vjp(product, x, kernel, memory, tap)[1](g)
    if dtap is not None:
        dense = dtap.settled().to_dense(kernel.shape if axis else kernel.shape[::-1])
        dkernel = dense if axis else dense.T
    return dx, increment, dkernel


@pytest.mark.parametrize(
    "rule",
    [backward.memorized_top_k(0.05, 0.8), backward.memorized_top_k(0.05, 0.8, memory="slot")],
)
def test_the_three_ways_through_a_union_agree(rule):
    by_entries, by_products, dense = (layer(rule, axis) for axis in (0, 1, None))
    for other in (by_products, dense):
        for a, b in zip(by_entries, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere the union is multiplied")
def test_nothing_is_multiplied_by_zero():
    compiled = jax.jit(lambda: layer(backward.top_k(0.05), 0)).lower().compile().as_text()
    assert " dot(" not in compiled
    multiplied = jax.jit(lambda: layer(backward.top_k(0.05), 1)).lower().compile().as_text()
    assert " dot(" in multiplied
