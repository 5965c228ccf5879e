import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import tree
from sparsetrain.models import LeNet5


def test_parameters_are_those_of_caffe():
    params = jax.eval_shape(LeNet5().init, jax.random.key(0), jnp.ones([1, 28, 28, 1]))["params"]
    sizes = dict(
        zip(tree.paths(params), (leaf.size for leaf in jax.tree.leaves(params)), strict=True)
    )
    assert sizes == {
        "conv_0/bias": 20,
        "conv_0/kernel": 500,
        "conv_1/bias": 50,
        "conv_1/kernel": 25_000,
        "hidden/bias": 500,
        "hidden/kernel": 400_000,
        "output/bias": 10,
        "output/kernel": 5_000,
    }
    assert sum(sizes.values()) == 431_080


def test_forward_equals_numpy():
    model = LeNet5(classes=3, channels=(2, 4), hidden=5)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    params = jax.tree.map(lambda x: x + 0.1, model.init(jax.random.key(0), images))
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    x = np.asarray(images, np.float64)
    for name in ("conv_0", "conv_1"):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
        x = np.einsum("bhwcij,ijco->bhwo", windows, layers[name]["kernel"]) + layers[name]["bias"]
        x = x.reshape(2, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
    x = x.reshape(2, -1) @ layers["hidden"]["kernel"] + layers["hidden"]["bias"]
    x = np.maximum(x, 0) @ layers["output"]["kernel"] + layers["output"]["bias"]
    np.testing.assert_allclose(model.apply(params, images), x, rtol=1e-4, atol=1e-5)


def test_weights_follow_glorot_and_biases_are_zero():
    hidden = LeNet5().init(jax.random.key(0), jnp.ones([1, 28, 28, 1]))["params"]["hidden"]
    assert float(hidden["kernel"].std()) == pytest.approx(np.sqrt(2 / (800 + 500)), rel=0.01)
    assert not hidden["bias"].any()
