"""Blocks of columns through the kernels: which layers go there, without a gather, and the same gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward
from sparsetrain.backward.row_sparse import RowSparse
from sparsetrain.kernels import block_column_matmul, block_column_outer, dispatch
from tests.kernels import targets

ROWS, INPUTS, OUTPUTS = 16, 128, 512
DENSE = (((1,), (0,)), ((), ()))
RULE = backward.unified_top_k(0.5, block=128)
# A column's gradient in float32, rounded to bfloat16 at the end: one unit in its last place.
CLOSE = {"rtol": 2**-7, "atol": 2**-7}


def operands(dtype=jnp.bfloat16, x_shape=(ROWS, INPUTS), kernel_shape=(INPUTS, OUTPUTS)):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], x_shape, dtype)
    return x, jax.random.normal(keys[1], kernel_shape, dtype) / 16


def gradients(rule, x, kernel, numbers=DENSE, tap=None, **options):
    """(dx, dkernel, dtap) of a loss with another cotangent in every entry."""

    def loss(x, kernel, tap):
        memory = rule.init((kernel.size // INPUTS,))
        y = backward.sparse_dot_general(x, kernel, memory, numbers, rule, tap=tap, **options)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.sum(y.astype(jnp.float32) * weights)

    return jax.grad(loss, argnums=(0, 1) if tap is None else (0, 1, 2))(x, kernel, tap)


@pytest.fixture
def calls(monkeypatch):
    """Plain JAX in the place of the kernels, so that they run here; (operation, axis) of every call."""
    made = []
    for operation in (block_column_matmul, block_column_outer):
        name = operation.__name__
        plain = dispatch.module(operation.__module__, dispatch.XLA)
        kernel = dispatch.module(operation.__module__, dispatch.MOSAIC_GPU)

        def record(*arguments, name=name, plain=plain):
            made.append((name, arguments[-1]))
            return getattr(plain, name)(*arguments)

        monkeypatch.setattr(kernel, name, record)
    return made


TAPS = {"dense": (None, 1), "rows": (0, 0), "columns": (1, 1)}


@pytest.mark.parametrize("name", TAPS)
def test_the_same_gradients_from_the_ungathered_cotangent(name, calls):
    tap_axis, axis = TAPS[name]
    width = RULE.width(OUTPUTS, ROWS)
    tap = None if tap_axis is None else RowSparse.tap(INPUTS, width, jnp.float32, tap_axis)
    x, kernel = operands()
    plain = gradients(RULE, x, kernel, tap=tap)
    assert not calls
    with jax.sharding.use_abstract_mesh(targets.H200):
        found = gradients(RULE, x, kernel, tap=tap)
    assert calls == [("block_column_matmul", axis), ("block_column_outer", axis)]
    assert jax.tree.structure(found) == jax.tree.structure(plain)
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(
            np.asarray(got, np.float32), np.asarray(expected, np.float32), **CLOSE
        )
    kept = np.asarray(found[1] if tap is None else found[2].values, np.float32)
    assert np.count_nonzero(kept) == INPUTS * width


def test_several_axes_become_two(calls):
    """Heads that are contracted, and heads that come out."""
    numbers = (((0, 2), (3, 1)), ((), ()))
    x, kernel = operands(x_shape=(2, ROWS, 64), kernel_shape=(4, 64, 128, 2))
    plain = gradients(RULE, x, kernel, numbers)
    with jax.sharding.use_abstract_mesh(targets.H200):
        found = gradients(RULE, x, kernel, numbers)
    assert len(calls) == 2
    for got, expected in zip(found, plain, strict=True):
        np.testing.assert_allclose(
            np.asarray(got, np.float32), np.asarray(expected, np.float32), **CLOSE
        )


NOT_FOR_KERNELS = {
    "float32": ({"dtype": jnp.float32}, RULE, {}),
    "a memory": ({}, backward.unified_top_k(0.5, 0.8, block=128), {}),
    "single columns": ({}, backward.unified_top_k(0.5), {}),
    "another block": ({}, backward.unified_top_k(0.5, block=32), {}),
    "a precision": ({}, RULE, {"precision": "highest"}),
    "a wider result": ({}, RULE, {"preferred_element_type": jnp.float32}),
    "inputs": ({"x_shape": (ROWS, 96), "kernel_shape": (96, OUTPUTS)}, RULE, {}),
    "no rows": ({"x_shape": (0, INPUTS)}, RULE, {}),
}


@pytest.mark.parametrize("name", NOT_FOR_KERNELS)
def test_everything_else_stays_with_xla(name, calls):
    given, rule, options = NOT_FOR_KERNELS[name]
    with jax.sharding.use_abstract_mesh(targets.H200):
        gradients(rule, *operands(**given), **options)
    assert not calls


def layer_gradient(row_sparse, layout):
    model = backward.linen.sparsify(
        nn.Dense(OUTPUTS, dtype=jnp.bfloat16, name="hidden"),
        {r".*kernel": backward.unified_top_k(0.1, block=128)},
        row_sparse=row_sparse,
        kernel_layout=layout,
    )
    x = jnp.ones((ROWS, INPUTS), jnp.bfloat16)
    variables = model.init(jax.random.key(0), x)

    def loss(variables, x):
        return jnp.sum(model.apply(variables, x).astype(jnp.float32) ** 2)

    return jax.grad(loss, argnums=(0, 1)), (variables, x)


@pytest.mark.parametrize(
    ("row_sparse", "layout"), [(False, "out_in"), (True, "out_in"), (True, "in_out")]
)
@pytest.mark.parametrize("name", targets.MESHES)
def test_a_layer_is_two_kernels_and_no_gather(name, row_sparse, layout):
    function, arguments = layer_gradient(row_sparse, layout)
    text = targets.lowered(name, function, *arguments)
    assert targets.calls(text).count(targets.CALLS[name]) == 2
    assert "stablehlo.gather" not in text
    # The plain path, by the same measure, gathers.
    plain = jax.jit(function).lower(*arguments).as_text()
    assert "stablehlo.gather" in plain


@pytest.mark.parametrize("name", targets.MESHES)
def test_every_worker_of_a_shard_map_has_its_own_kernels(name):
    """With types that say what differs between devices; a program for all of them would be XLA's."""
    device = targets.MESHES[name].abstract_device
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.sharding.AbstractMesh((2,), ("workers",), axis_types=auto, abstract_device=device)
    own, same = jax.sharding.PartitionSpec("workers"), jax.sharding.PartitionSpec()

    def shard(x, kernel):
        dx, dkernel = gradients(RULE, x, jax.lax.pcast(kernel, "workers", to="varying"))
        return dx, jax.lax.pmean(dkernel, "workers")

    run = jax.shard_map(shard, mesh=mesh, in_specs=(own, same), out_specs=(own, same))
    assert targets.custom_calls(name, run, *operands()).count(targets.CALLS[name]) == 2
