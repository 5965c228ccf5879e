import jax
import jax.numpy as jnp
import pytest

from sparsetrain import backward, programs

X = jnp.ones((2, 2))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.sort(x),
        jax.jit(jnp.sort),
        jax.checkpoint(jnp.sort),
        lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sort, jnp.cos, x),
        lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.sort(y), x),
        lambda x: jax.lax.scan(lambda y, _: (jax.vmap(jnp.sort)(y), None), x, length=2),
    ],
)
def test_a_primitive_is_found_however_deep(function):
    program = jax.make_jaxpr(function)(X)
    assert programs.contains(program, "sort") and programs.contains(program, "dot", "sort")
    assert not programs.contains(program, "conv_general_dilated")


def test_a_sparse_convolution_convolves_and_a_product_does_not():
    def convolve(x, kernel):
        rule = backward.unified_top_k(density=0.5)
        numbers = ("NHWC", "HWIO", "NHWC")
        return backward.sparse_conv_general(
            x,
            kernel,
            None,
            rule,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=numbers,
        ).sum()

    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    assert programs.convolves(jax.grad(convolve, (0, 1)), x, kernel)
    assert programs.convolves(convolve, *jax.eval_shape(lambda: (x, kernel)))
    assert not programs.convolves(jnp.dot, X, X)
