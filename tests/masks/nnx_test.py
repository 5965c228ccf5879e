"""nnx models over live blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sparsetrain import backward, masks
from tests.kernels import targets


class Net(nnx.Module):
    def __init__(self, dtype=jnp.float32):
        rngs = nnx.Rngs(0)
        self.a = nnx.Linear(128, 192, dtype=dtype, rngs=rngs)
        self.b = nnx.List([nnx.LinearGeneral(192, 64, dtype=dtype, rngs=rngs)])
        self.output = nnx.Linear(64, 4, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.b[0](nnx.relu(self.a(x)))))


X = jax.random.normal(jax.random.key(1), (32, 128))
Y = jax.random.randint(jax.random.key(2), (32,), 0, 4)


def tx_of(name):
    own = {"structure": masks.block(64, 64), "dense": "output/.*"}
    if name == "static":
        return masks.static(optax.adam(1e-2), 0.5, key=jax.random.key(0), **own)
    return masks.gradual(optax.adam(1e-2), 0.3, begin=2, end=6, every=2, **own)


@pytest.mark.parametrize("name", ["static", "gradual"])
def test_training_is_that_of_dense_products(name):
    tx = tx_of(name)

    def trained(is_sparse):
        model = Net()
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        nnx.update(model, masks.apply(nnx.state(model, nnx.Param), optimizer.opt_state))
        if is_sparse:
            masks.nnx.block_sparse(model, masks.live_blocks(tx, optimizer.opt_state, 64))

        @nnx.jit
        def step(model, optimizer):
            if is_sparse:
                masks.nnx.block_sparse(model, masks.live_blocks(tx, optimizer.opt_state, 64))

            def loss(model):
                return optax.softmax_cross_entropy_with_integer_labels(model(X), Y).mean()

            value, grads = nnx.value_and_grad(loss)(model)
            optimizer.update(model, grads)
            return value, grads["a"]["kernel"][...]

        values, zeros = [], 0
        for _ in range(8):
            value, gradient = step(model, optimizer)
            values.append(float(value))
        mask = np.asarray(masks.find(optimizer.opt_state).masks["a/kernel"])
        zeros = np.abs(np.asarray(gradient))[~mask].sum()
        return model, values, zeros

    model, values, zeros = trained(is_sparse=True)
    dense, dense_values, dense_zeros = trained(is_sparse=False)
    np.testing.assert_allclose(values, dense_values, rtol=1e-3)
    assert values[-1] < 0.7 * values[0]
    assert zeros == 0 < dense_zeros
    assert type(model.a).__name__ == "BlockSparseLinear"
    assert type(model.output) is nnx.Linear
    plain = masks.nnx.densify(model)
    assert type(plain.a) is nnx.Linear and type(plain.b[0]) is nnx.LinearGeneral
    assert jax.tree.structure(nnx.state(plain)) == jax.tree.structure(nnx.state(Net()))
    np.testing.assert_allclose(plain(X), dense(X), rtol=1e-2, atol=1e-3)


GRIDS = {"a/kernel": jnp.ones((2, 3), bool), "b/0/kernel": jnp.ones((3, 1), bool)}


def test_mistakes_are_told():
    model = Net()
    with pytest.raises(ValueError, match="no parameter A/kernel; there are a/bias, a/kernel"):
        masks.nnx.block_sparse(model, {"A/kernel": GRIDS["a/kernel"]})
    with pytest.raises(ValueError, match="once outside jit, so that a/kernel is prepared"):
        nnx.jit(masks.nnx.block_sparse)(model, GRIDS)
    assert type(model.a) is nnx.Linear
    masks.nnx.block_sparse(model, GRIDS)
    with pytest.raises(ValueError, match="no blocks of b/0/kernel, which were given before"):
        masks.nnx.block_sparse(model, {"a/kernel": GRIDS["a/kernel"]})
    rules = {"a/kernel": backward.top_k(0.5)}
    with pytest.raises(ValueError, match="a/kernel already has a dot_general of its own"):
        masks.nnx.block_sparse(backward.nnx.sparsify(Net(), rules), GRIDS)


@pytest.mark.parametrize("name", targets.MESHES)
def test_a_layer_is_three_kernels(name):
    net = nnx.Sequential(
        *(nnx.Linear(128, 128, dtype=jnp.bfloat16, rngs=nnx.Rngs(i)) for i in range(2))
    )
    live = {f"layers/{i}/kernel": jnp.ones((1, 1), bool) for i in range(2)}
    graph, params, rest = nnx.split(masks.nnx.block_sparse(net, live), nnx.Param, ...)

    def loss(params, rest, x):
        return jnp.sum(nnx.merge(graph, params, rest)(x).astype(jnp.float32) ** 2)

    grad = jax.grad(loss, argnums=(0, 2))
    calls = targets.custom_calls(name, grad, params, rest, jnp.ones((64, 128), jnp.bfloat16))
    assert calls.count(targets.CALLS[name]) == 6
