"""Convolutions: per example over H * W * C, or over channels that the batch shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sparsetrain import backward

OPTIONS = {"window_strides": (2, 1), "padding": "SAME"}
LAYOUTS = {
    "NHWC": (("NHWC", "HWIO", "NHWC"), (3, 6, 5, 4), (3, 3, 4, 8)),
    "NCHW": (("NCHW", "OIHW", "NCHW"), (3, 4, 6, 5), (8, 4, 3, 3)),
}
RULES = {
    "top_k": backward.top_k(0.1),
    "memorized": backward.memorized_top_k(0.1, 0.5),
    "slot": backward.memorized_top_k(0.1, 0.5, memory="slot"),
    "unified": backward.unified_top_k(0.25, 0.5),
    "random": backward.random_k(0.25, key=0),
}


def expected_rows(rule, dy: jax.Array, feature_axis: int) -> tuple[jax.Array, tuple[int, ...]]:
    ordered = jnp.moveaxis(dy, feature_axis, -1)
    if rule.shares_columns:
        return ordered.reshape(-1, ordered.shape[-1]), ordered.shape
    return ordered.reshape(ordered.shape[0], -1), ordered.shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_those_of_the_selected_cotangent(layout: str, name: str, groups: int) -> None:
    rule = RULES[name]
    names, x_shape, kernel_shape = LAYOUTS[layout]
    input_axis = names[1].index("I")
    kernel_shape = tuple(
        n // groups if axis == input_axis else n for axis, n in enumerate(kernel_shape)
    )
    options = {**OPTIONS, "dimension_numbers": names, "feature_group_count": groups}
    x = jax.random.normal(jax.random.key(0), x_shape)
    kernel = jax.random.normal(jax.random.key(1), kernel_shape)
    y = lax.conv_general_dilated(x, kernel, **options)
    dy = jax.random.normal(jax.random.key(2), y.shape)
    feature_axis = names[2].index("C")
    rows, shape = expected_rows(rule, dy, feature_axis)
    memory_shape = (8,) if rule.shares_columns else shape[1:]
    memory = rule.init(memory_shape, 3)
    if memory is not None and memory.ndim:
        memory = 0.1 * jax.random.normal(jax.random.key(3), memory.shape)

    def loss(x, kernel, memory):
        out = backward.sparse_conv_general(x, kernel, memory, rule, **options)
        np.testing.assert_array_equal(out.shape, y.shape)
        return jnp.sum(out * dy)

    dx, dkernel, increment = jax.grad(loss, argnums=(0, 1, 2))(x, kernel, memory)
    flat = memory
    if memory is not None and memory.ndim:
        flat = memory.reshape(3, -1) if name == "slot" else memory.reshape(-1)
    chosen = rule.select(rows, flat)
    g = jnp.moveaxis(chosen.to_dense(rows.shape[1]).reshape(shape), -1, feature_axis)
    _, pull = jax.vjp(lambda x, k: lax.conv_general_dilated(x, k, **options), x, kernel)
    for got, want in zip((dx, dkernel), pull(g), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    if memory is not None:
        np.testing.assert_allclose(
            increment, chosen.increment.reshape(memory.shape), rtol=1e-5, atol=1e-6
        )


def test_rows_are_examples_for_channels_too() -> None:
    """Two half batches with rows = the whole batch: shares of M are per position of the whole batch."""
    rule = backward.unified_top_k(0.25, 0.5)
    names, x_shape, kernel_shape = LAYOUTS["NHWC"]
    x = jnp.zeros((1, *x_shape[1:]))
    kernel = jax.random.normal(jax.random.key(1), kernel_shape)
    memory = jnp.arange(8.0)

    def loss(memory):
        out = backward.sparse_conv_general(
            x, kernel, memory, rule, dimension_numbers=names, rows=2, **OPTIONS
        )
        return 0.0 * jnp.sum(out)

    # One of two examples, nothing comes in: half of M is shared out, the two largest channels send
    # theirs, the others keep decay * their half and the half that waits for the second example.
    new = memory + jax.grad(loss)(memory)
    half = memory / 2
    expected = half + jnp.where(jnp.arange(8) >= 6, 0.0, 0.5 * half)
    np.testing.assert_allclose(new, expected, rtol=1e-5)


def test_density_one_is_plain_autodiff() -> None:
    names, x_shape, kernel_shape = LAYOUTS["NHWC"]
    x, kernel = jnp.ones(x_shape), jax.random.normal(jax.random.key(1), kernel_shape)
    options = {**OPTIONS, "dimension_numbers": names}

    def sparse(x, kernel):
        out = backward.sparse_conv_general(x, kernel, None, backward.top_k(1.0), **options)
        return jnp.sum(jnp.sin(out))

    def dense(x, kernel):
        return jnp.sum(jnp.sin(lax.conv_general_dilated(x, kernel, **options)))

    for got, want in zip(
        jax.grad(sparse, argnums=(0, 1))(x, kernel),
        jax.grad(dense, argnums=(0, 1))(x, kernel),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)
