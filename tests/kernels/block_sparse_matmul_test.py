import functools
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparsetrain import kernels
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.block_sparse_matmul import mosaic_gpu, reference, shapes, tpu
from tests.kernels import products, targets

MODULES = {dispatch.MOSAIC_GPU: mosaic_gpu, dispatch.TPU: tpu, dispatch.XLA: reference}
BF16, F16 = jnp.bfloat16, jnp.float16
PARTS = ("forward", "input_gradient", "weight_gradient")


def drawn(rows, columns, share):
    """Live blocks; with a share of 0.5 a row and a column without any, where there is room."""
    live = np.random.default_rng(3).random((rows, columns)) < share
    if 0 < share < 1:
        live[0, 0], live[rows // 2, 1:], live[1:, columns // 2] = True, False, False
    return live


def spread(live, block):
    return np.kron(live, np.ones(block)).astype(bool)


def operands(part, rows, inputs, outputs, block, live, dtype=BF16):
    """What a part takes, and what it should give; what is dead is NaN."""
    tall, wide = (block, block) if isinstance(block, int) else block
    mask = spread(live, (tall, wide))
    x, dy = products.normal(0, rows, inputs), products.normal(1, rows, outputs)
    w = products.normal(2, inputs, outputs)
    if part == "forward":
        wanted = products.wide(x) @ np.where(mask, products.wide(w), 0)
        given = x, jnp.where(mask, w, jnp.nan), live
    elif part == "input_gradient":
        wanted = products.wide(dy) @ np.where(mask, products.wide(w), 0).T
        given = dy, jnp.where(mask, w, jnp.nan), live
    else:
        wanted = np.where(mask, products.wide(x).T @ products.wide(dy), 0)
        given = (
            jnp.where(mask.any(axis=1), x, jnp.nan),
            jnp.where(mask.any(axis=0), dy, jnp.nan),
            live,
        )
    *given, live = given
    return *(each.astype(dtype) for each in given), jnp.asarray(live), wanted


def assert_part_is_right(run, part, rows, inputs, outputs, block, live, dtype=BF16):
    first, second, live, wanted = operands(part, rows, inputs, outputs, block, live, dtype)
    found = run(first, second, live)
    assert found.dtype == dtype
    terms = {"forward": inputs, "input_gradient": outputs, "weight_gradient": rows}[part]
    products.assert_close(found, wanted, terms)


CASES = {
    "half": (*shapes.SMALL, BF16),
    "all, two tiles of rows": (130, 128, 256, 128, 1.0, BF16),
    "none": (16, 256, 128, 128, 0.0, BF16),
}
ON_GPU = {"narrow": (65, 192, 256, 64, 0.5, F16)}
RUNS = [(name, case) for name in products.NAMES for case in CASES] + [
    (dispatch.MOSAIC_GPU, case) for case in ON_GPU
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("name", "case"), RUNS)
def test_kernels_are_the_products(name, case, part):
    rows, inputs, outputs, block, share, dtype = (CASES | ON_GPU)[case]
    live = drawn(inputs // block, outputs // block, share)
    run = functools.partial(products.interpreted, name, getattr(MODULES[name], part))
    assert_part_is_right(run, part, rows, inputs, outputs, block, live, dtype)


@settings(max_examples=2, phases=[Phase.generate])  # a failure here costs seconds a try
@given(rows=st.integers(1, 200), data=st.data())
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", products.NAMES)
def test_kernels_of_any_pattern(name, part, rows, data):
    tall, wide = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    flags = data.draw(st.lists(st.booleans(), min_size=tall * wide, max_size=tall * wide))
    live = np.reshape(flags, (tall, wide))
    run = functools.partial(products.interpreted, name, getattr(MODULES[name], part))
    assert_part_is_right(run, part, rows, 128 * tall, 128 * wide, 128, live)


@settings(max_examples=8)
@given(
    rows=st.integers(1, 5),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from([jnp.float32, BF16, F16]),
    part=st.sampled_from(PARTS),
    share=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_any_size_by_xla(rows, block, grid, dtype, part, share):
    live = np.random.default_rng(0).random(grid) < share
    inputs, outputs = grid[0] * block[0], grid[1] * block[1]
    assert_part_is_right(getattr(reference, part), part, rows, inputs, outputs, block, live, dtype)


@pytest.mark.parametrize("name", [*products.NAMES, dispatch.XLA])
def test_gradients_are_those_of_the_masked_product(name, monkeypatch):
    shape, live = (3, 2, 256), jnp.array([[True, False, True], [False, False, True]])
    x, w = products.normal(0, *shape), products.normal(1, 256, 384)
    cotangent = products.normal(2, 3, 2, 384)
    mask = spread(live, (128, 128))

    def masked(x, w):
        return x.astype(jnp.float32) @ jnp.where(mask, w.astype(jnp.float32), 0)

    y, pull = jax.vjp(masked, x, w)
    wanted = y, *pull(cotangent.astype(jnp.float32))
    poisoned = jnp.where(mask, w, jnp.nan)
    with targets.interpreter(name) if name in products.NAMES else nullcontext({}) as given:
        parts = {part: functools.partial(getattr(MODULES[name], part), **given) for part in PARTS}
        for part, run in parts.items():
            monkeypatch.setattr(MODULES[name], part, run)
        monkeypatch.setattr(dispatch, "choose", lambda *_: name)
        y, pull = jax.vjp(lambda x, w: kernels.block_sparse_matmul(x, w, live), x, poisoned)
        found = jax.block_until_ready((y, *pull(cotangent)))
    for a, b, terms in zip(found, wanted, (256, 384, 6), strict=True):
        assert a.dtype == BF16
        products.assert_close(a, products.wide(b), terms)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (dispatch.MOSAIC_GPU, shapes.TENTH),
        (dispatch.MOSAIC_GPU, shapes.TENTH_NARROW),
        (dispatch.MOSAIC_GPU, shapes.SMALL),
        (dispatch.TPU, shapes.TENTH),
        (dispatch.TPU, shapes.SMALL),
    ],
)
def test_each_platform_gets_its_kernel_once_a_product_and_nothing_else_moves(name, size):
    rows, inputs, outputs, block, _ = size
    given = [
        jax.ShapeDtypeStruct((rows, inputs), BF16),
        jax.ShapeDtypeStruct((inputs, outputs), BF16),
        jax.ShapeDtypeStruct((inputs // block, outputs // block), jnp.bool_),
        jax.ShapeDtypeStruct((rows, outputs), BF16),
    ]

    def forward(x, w, live, dy):
        return kernels.block_sparse_matmul(x, w, live)

    def both(x, w, live, dy):
        y, pull = jax.vjp(lambda x, w: kernels.block_sparse_matmul(x, w, live), x, w)
        return y, pull(dy)

    for function, calls in ((forward, 1), (both, 3)):
        text = targets.lowered(name, function, *given)
        assert targets.calls(text) == [targets.CALLS[name]] * calls
        # Only rows that are no multiple of their tile are copied.
        is_padded = rows % 64 and name == dispatch.MOSAIC_GPU
        assert products.moves(text) == ({"pad"} if is_padded else set())


@pytest.mark.parametrize(
    ("name", "dtype", "live", "reason"),
    [
        (dispatch.MOSAIC_GPU, jnp.float32, (2, 1), "float32"),
        (dispatch.MOSAIC_GPU, BF16, (1, 1), "blocks of 256 x 128 are not square"),
        (dispatch.MOSAIC_GPU, BF16, (8, 4), "block=32 is not one of 64, 128"),
        (dispatch.TPU, F16, (2, 1), "a TPU has no float16"),
        (dispatch.TPU, BF16, (4, 2), "block=64 is less than the 128 lanes"),
    ],
)
def test_what_fits_no_kernel_goes_to_xla_and_says_why_when_asked(name, dtype, live, reason):
    x, w, live = jnp.zeros((8, 256), dtype), jnp.zeros((256, 128), dtype), jnp.ones(live, bool)
    product = kernels.block_sparse_matmul
    assert targets.custom_calls(name, product, x, w, live) == []
    with (
        jax.sharding.use_abstract_mesh(targets.MESHES[name]),
        pytest.raises(ValueError, match=f"'{name}': .*{reason}.*; give None, or 'xla'"),
    ):
        product(x, w, live, implementation=name)


def test_without_rows_there_is_nothing_to_multiply():
    x, w, live = jnp.zeros((0, 256), BF16), jnp.zeros((256, 128), BF16), jnp.ones((2, 1), bool)
    assert targets.custom_calls("mosaic_gpu", kernels.block_sparse_matmul, x, w, live) == []
    assert kernels.block_sparse_matmul(x, w, live).shape == (0, 128)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"x": jnp.zeros(())}, ValueError, r"give \[..., I\] and \[I, O\]"),
        ({"x": jnp.zeros((2, 3))}, ValueError, r"x \(2, 3\) and w \(4, 6\)"),
        ({"x": jnp.zeros((2, 4), BF16)}, TypeError, "x of bfloat16, w of float32"),
        ({"live": jnp.ones((2, 2))}, TypeError, "live of float32: give bool"),
        ({"live": jnp.ones((3, 2), bool)}, ValueError, "must divide w"),
        ({"live": jnp.ones((2, 0), bool)}, ValueError, "must divide w"),
        ({"implementation": "tpu"}, ValueError, "implementation='tpu': this is a cpu"),
    ],
)
def test_what_cannot_be_is_refused(changed, error, text):
    plain = {"x": jnp.zeros((2, 4)), "w": jnp.zeros((4, 6)), "live": jnp.ones((2, 2), bool)}
    with pytest.raises(error, match=text):
        kernels.block_sparse_matmul(**(plain | changed))


@pytest.mark.parametrize("name", targets.MESHES)
def test_examples_by_vmap(name):
    """Gradients of each example: the live blocks are the same for all."""
    x, w = jnp.zeros((2, 128, 128), jnp.bfloat16), jnp.zeros((128, 256), jnp.bfloat16)
    live = jnp.ones((1, 2), bool)

    def loss(x, w):
        return kernels.block_sparse_matmul(x, w, live).astype(jnp.float32).sum()

    of_each = jax.vmap(jax.grad(loss, (0, 1)), in_axes=(0, None))
    assert targets.custom_calls(name, of_each, x, w) == 2 * [targets.CALLS[name]]
