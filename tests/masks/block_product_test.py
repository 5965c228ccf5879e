"""A layer's product over live blocks, and the options with which it is a dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.masks.block_product import block_product
from tests.kernels import targets

LAYERS = (((2,), (0,)), ((), ()))
LIVE = jnp.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "highest"},
        {"precision": ("default", None), "preferred_element_type": jnp.float32},
    ],
    ids=str,
)
def test_dead_blocks_are_not_there(options):
    x = jax.random.normal(jax.random.key(0), (2, 3, 8))
    kernel = jax.random.normal(jax.random.key(1), (8, 12))
    mask = np.kron(np.asarray(LIVE), np.ones((4, 4), bool))

    def loss(product, x, kernel):
        y = product(x, kernel)
        return jnp.sum(jnp.sin(y)), y

    grads = jax.grad(loss, argnums=(1, 2), has_aux=True)
    found, y = grads(lambda x, w: block_product(LIVE, x, w, LAYERS, **options), x, kernel)
    expected, dense = grads(lambda x, w: x @ jnp.where(mask, w, 0), x, kernel)
    np.testing.assert_allclose(y, dense, rtol=1e-5, atol=1e-6)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert not np.asarray(found[1])[~mask].any()


@pytest.mark.parametrize("name", targets.MESHES)
@pytest.mark.parametrize("precision", [None, "highest"])
def test_a_precision_stays_with_xla(name, precision):
    x, kernel = jnp.ones((2, 64, 256), jnp.bfloat16), jnp.ones((256, 384), jnp.bfloat16)

    def product(x, kernel):
        return block_product(LIVE, x, kernel, LAYERS, precision=precision)

    assert targets.custom_calls(name, product, x, kernel) == [targets.CALLS[name]] * (
        precision is None
    )
