"""Products with other axes than Dense's, and what the operation refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward
from sparsetrain.backward.row_sparse import RowSparse

# x shape, kernel shape, contracted axes of each: heads in, heads out, a scrambled order, and a
# vector
CASES = {
    "attention query": ((2, 3, 8), (8, 2, 12), ((2,), (0,))),
    "attention out": ((2, 3, 2, 4), (2, 4, 24), ((2, 3), (0, 1))),
    "scrambled": ((4, 2, 3), (24, 3, 4), ((2, 0), (1, 2))),
    "one row": ((8,), (8, 24), ((0,), (0,))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "rule",
    [backward.memorized_top_k(0.25, 0.5), backward.unified_top_k(0.25, 0.5)],
    ids=["mask", "compact"],
)
def test_gradients_follow_the_selection(name: str, rule) -> None:
    x_shape, kernel_shape, contracting = CASES[name]
    numbers = (contracting, ((), ()))
    x = jax.random.normal(jax.random.key(0), x_shape)
    kernel = jax.random.normal(jax.random.key(1), kernel_shape)
    y = jax.lax.dot_general(x, kernel, numbers)
    dy = jax.random.normal(jax.random.key(2), y.shape)
    free = tuple(n for axis, n in enumerate(kernel_shape) if axis not in contracting[1])
    memory = 0.1 * jax.random.normal(jax.random.key(3), free)

    def loss(x, kernel, memory):
        return jnp.sum(backward.sparse_dot_general(x, kernel, memory, numbers, rule) * dy)

    dx, dkernel, increment = jax.grad(loss, argnums=(0, 1, 2))(x, kernel, memory)
    outputs = memory.size
    chosen = rule.select(dy.reshape(-1, outputs), memory.reshape(-1))
    g = chosen.to_dense(outputs).reshape(y.shape)
    _, pull = jax.vjp(lambda x, kernel: jax.lax.dot_general(x, kernel, numbers), x, kernel)
    for got, expected in zip((dx, dkernel), pull(g), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(increment, chosen.increment.reshape(free), rtol=1e-6)


def test_batch_dimensions_are_refused() -> None:
    numbers = (((2,), (1,)), ((0,), (0,)))
    with pytest.raises(ValueError, match="batch dimensions have no sparse backward"):
        backward.sparse_dot_general(
            jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5)), None, numbers, backward.top_k(0.5)
        )


def test_tap_that_is_too_narrow_or_meets_a_mask() -> None:
    numbers = (((1,), (0,)), ((), ()))

    def grad(rule, width):
        tap = RowSparse.tap(4, width, jnp.float32, 0)
        return jax.grad(
            lambda tap: backward.sparse_dot_general(
                jnp.ones((3, 4)), jnp.ones((4, 16)), None, numbers, rule, tap=tap
            ).sum()
        )(tap)

    with pytest.raises(ValueError, match="room for 2 columns at init and this call selects 4"):
        grad(backward.unified_top_k(0.25), 2)
    with pytest.raises(ValueError, match="room for 2 columns at init and this call selects a mask"):
        grad(backward.top_k(0.25), 2)
    assert grad(backward.unified_top_k(0.25), 6).values.shape == (6, 4)  # wider is padded


def test_preferred_element_type_and_precision_reach_the_forward_product() -> None:
    numbers = (((1,), (0,)), ((), ()))
    x, kernel = jnp.ones((3, 4), jnp.bfloat16), jnp.ones((4, 5), jnp.bfloat16)
    rule = backward.top_k(0.4)

    def product(x, kernel):
        return backward.sparse_dot_general(
            x, kernel, None, numbers, rule, precision="highest", preferred_element_type=jnp.float32
        )

    assert product(x, kernel).dtype == jnp.float32
    grads = jax.grad(lambda x, kernel: product(x, kernel).sum(), argnums=(0, 1))(x, kernel)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16]
    assert "HIGHEST" in str(jax.make_jaxpr(product)(x, kernel))


@pytest.mark.parametrize("x_shape", [(8,), (5, 8), (2, 3, 8)])
def test_kernel_first_is_the_same_forward_product(x_shape) -> None:
    """What a kernel stored as [O, I] is multiplied by on a CPU."""
    x = jax.random.normal(jax.random.key(0), x_shape)
    kernel = jax.random.normal(jax.random.key(1), (8, 24))
    numbers = (((x.ndim - 1,), (0,)), ((), ()))
    tap = RowSparse.tap(8, 6, jnp.float32, 0)
    options = {"precision": ("highest", "default"), "preferred_element_type": jnp.float32}

    def product(x, kernel, tap):
        return backward.sparse_dot_general(
            x, kernel, None, numbers, backward.unified_top_k(0.25), tap=tap, **options
        )

    expected = jax.lax.dot_general(x, kernel, numbers, **options)
    np.testing.assert_allclose(product(x, kernel, tap), expected, rtol=1e-5, atol=1e-6)
    if jax.default_backend() == "cpu":
        lowered = jax.jit(product).lower(x, kernel, tap).as_text()
        assert "precision = [DEFAULT, HIGHEST]" in lowered  # they change places with the operands
        assert "optimization_barrier" in lowered
