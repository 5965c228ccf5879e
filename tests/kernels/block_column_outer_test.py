import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparsetrain import kernels
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.block_column_outer import mosaic_gpu, reference, shapes, tpu
from tests.kernels import products, targets

MODULES = {dispatch.MOSAIC_GPU: mosaic_gpu, dispatch.TPU: tpu}
BF16, F16 = jnp.bfloat16, jnp.float16


def operands(batch, outputs, inputs, block, chosen, dtype=BF16):
    """G, X and blocks in no order; what is not chosen is NaN."""
    blocks = np.random.default_rng(7).permutation(outputs // block)[:chosen]
    unchosen = ~np.isin(np.arange(outputs) // block, blocks)
    g = products.normal(0, batch, outputs, dtype=dtype)
    x = products.normal(1, batch, inputs, dtype=dtype)
    return g.at[:, unchosen].set(jnp.nan), x, jnp.asarray(blocks, jnp.int32)


def oracle(g, x, blocks, block, axis):
    g, x = products.wide(g), products.wide(x)
    rows = [g[:, b * block : (b + 1) * block].T @ x for b in np.asarray(blocks)]
    return np.concatenate(rows) if axis == 0 else np.concatenate(rows).T


def assert_is_the_product(found, g, x, blocks, block, axis):
    products.assert_close(found, oracle(g, x, blocks, block, axis), g.shape[0])


CASES = {
    "some": (*shapes.SMALL, 0, BF16),
    "some, as columns": (*shapes.SMALL, 1, BF16),
    "one block, one row": (1, 256, 128, 128, 1, 1, BF16),
    "all, two tiles of the batch": (130, 256, 128, 128, 2, 0, BF16),
}
ON_GPU = {
    "narrow blocks": (65, 320, 128, 64, 3, 1, F16),
    "one narrow block": (64, 128, 256, 64, 1, 0, F16),
}
RUNS = [(name, case) for name in MODULES for case in CASES] + [
    (dispatch.MOSAIC_GPU, case) for case in ON_GPU
]


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_kernels_are_the_product(name, case):
    *sizes, block, chosen, axis, dtype = (CASES | ON_GPU)[case]
    g, x, blocks = operands(*sizes, block, chosen, dtype)
    run = MODULES[name].block_column_outer
    found = products.interpreted(name, run, g, x, blocks, block, axis)
    assert found.dtype == dtype
    assert_is_the_product(found, g, x, blocks, block, axis)


@settings(max_examples=2, phases=[Phase.generate])  # a failure here costs seconds a try
@given(batch=st.integers(1, 300), outputs=st.integers(1, 4), data=st.data())
@pytest.mark.parametrize("name", MODULES)
def test_kernels_of_any_size(name, batch, outputs, data):
    chosen, axis = data.draw(st.integers(1, outputs)), data.draw(st.integers(0, 1))
    g, x, blocks = operands(batch, 128 * outputs, 128, 128, chosen)
    run = MODULES[name].block_column_outer
    found = products.interpreted(name, run, g, x, blocks, 128, axis)
    assert_is_the_product(found, g, x, blocks, 128, axis)


@settings(max_examples=8)
@given(
    batch=st.integers(1, 9),
    inputs=st.integers(1, 9),
    block=st.integers(1, 4),
    many=st.integers(1, 5),
    dtype=st.sampled_from([jnp.float32, BF16, F16]),
    data=st.data(),
)
def test_any_size_by_xla(batch, inputs, block, many, dtype, data):
    chosen, axis = data.draw(st.integers(1, many)), data.draw(st.integers(0, 1))
    g, x, blocks = operands(batch, many * block, inputs, block, chosen, dtype)
    found = kernels.block_column_outer(g, x, blocks, block=block, axis=axis)
    assert found.dtype == dtype
    assert_is_the_product(found, g, x, blocks, block, axis)


@pytest.mark.parametrize("name", MODULES)
def test_a_number_out_of_range_is_the_nearest(name):
    g, x = products.normal(0, 8, 256), products.normal(1, 8, 128)
    wanted = products.wide(g).T @ products.wide(x)
    blocks = jnp.array([-3, 9])
    run = MODULES[name].block_column_outer
    products.assert_close(products.interpreted(name, run, g, x, blocks, 128, 0), wanted, 8)
    products.assert_close(reference.block_column_outer(g, x, blocks, 128, 0), wanted, 8)


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_are_those_of_the_rows_of_the_dense_product(axis):
    g, x = (products.normal(seed, 5, size, dtype=jnp.float32) for seed, size in ((0, 12), (1, 3)))
    chosen = np.array([8, 9, 10, 11, 0, 1, 2, 3])
    cotangent = products.normal(2, *((8, 3) if axis == 0 else (3, 8)), dtype=jnp.float32)

    def rows(g, x):
        dense = (g.T @ x)[chosen]
        return dense if axis == 0 else dense.T

    def sparse(g, x):
        return kernels.block_column_outer(g, x, jnp.array([2, 0]), block=4, axis=axis)

    found = jax.vjp(sparse, g, x)[1](cotangent)
    for a, b in zip(found, jax.vjp(rows, g, x)[1](cotangent), strict=True):
        products.assert_close(a, products.wide(b), 12)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [shapes.TENTH, shapes.WIDE_TWENTIETH, shapes.SMALL])
@pytest.mark.parametrize("name", MODULES)
def test_each_platform_gets_its_kernel_once_and_nothing_else_moves(name, size, axis):
    batch, outputs, inputs, block, chosen = size
    shaped = [
        jax.ShapeDtypeStruct((batch, outputs), BF16),
        jax.ShapeDtypeStruct((batch, inputs), BF16),
        jax.ShapeDtypeStruct((chosen,), jnp.int32),
    ]

    def product(g, x, blocks):
        return kernels.block_column_outer(g, x, blocks, block=block, axis=axis)

    text = targets.lowered(name, product, *shaped)
    assert targets.calls(text) == [targets.CALLS[name]]
    # Only a batch that is no multiple of its tile is copied.
    is_padded = batch % 64 and name == dispatch.MOSAIC_GPU
    assert products.moves(text) == ({"pad"} if is_padded else set())


@pytest.mark.parametrize(
    ("name", "dtype", "block"),
    [
        (dispatch.MOSAIC_GPU, jnp.float32, 128),
        (dispatch.MOSAIC_GPU, BF16, 32),
        (dispatch.TPU, F16, 128),
        (dispatch.TPU, BF16, 64),
    ],
)
def test_what_fits_no_kernel_goes_to_xla_and_says_why_when_asked(name, dtype, block):
    g, x = jnp.zeros((8, 256), dtype), jnp.zeros((8, 128), dtype)
    blocks = jnp.zeros(1, jnp.int32)

    def product(g, x, blocks, implementation=None):
        return kernels.block_column_outer(g, x, blocks, block=block, implementation=implementation)

    assert targets.custom_calls(name, product, g, x, blocks) == []
    with (
        jax.sharding.use_abstract_mesh(targets.MESHES[name]),
        pytest.raises(ValueError, match=f"'{name}': .*(float|block=).*; give None, or 'xla'"),
    ):
        product(g, x, blocks, name)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"x": jnp.zeros(8)}, ValueError, "give two matrices"),
        ({"x": jnp.zeros((2, 4), BF16)}, TypeError, "dtypes float32 and bfloat16"),
        ({"x": jnp.zeros((3, 4))}, ValueError, "must have g's 2 rows"),
        ({"axis": 2}, ValueError, "axis=2: give 0 for rows or 1 for columns"),
        ({"blocks": jnp.zeros(5, jnp.int32)}, ValueError, "give a list of 1 to 4 blocks"),
        ({"implementation": "tpu"}, ValueError, "implementation='tpu': this is a cpu"),
    ],
)
def test_what_cannot_be_is_refused(changed, error, text):
    plain = {"g": jnp.zeros((2, 8)), "x": jnp.zeros((2, 4)), "blocks": jnp.array([1]), "block": 2}
    with pytest.raises(error, match=text):
        kernels.block_column_outer(**(plain | changed))
