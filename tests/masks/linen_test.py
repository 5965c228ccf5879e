"""Linen models over live blocks: training as with dense products, through growth and pruning, in one program."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward, masks, tree
from tests.kernels import targets

HIDDEN = 128


class Mlp(nn.Module):
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(HIDDEN, name="hidden_0", dtype=self.dtype)(x))
        x = nn.BatchNorm(use_running_average=False, dtype=self.dtype)(x)
        x = nn.relu(nn.Dense(HIDDEN, name="hidden_1", dtype=self.dtype)(x))
        return nn.Dense(10, name="output", dtype=self.dtype)(x)


def grow_and_prune(inner, block=64):
    parts = masks.partitions({"lower": "hidden_0/.*", "upper": "hidden_1/.*"}, dense="output/.*")
    return masks.grow_and_prune(
        inner,
        0.25,
        parts,
        steps_per_phase=3,
        phases=3,
        key=jax.random.key(0),
        structure=masks.block(block, block),
    )


def test_training_is_that_of_dense_products() -> None:
    x = jax.random.normal(jax.random.key(1), (32, 128))
    y = jax.random.randint(jax.random.key(2), (32,), 0, 10)
    sparse = masks.linen.block_sparse(Mlp())
    variables = sparse.init(jax.random.key(3), x)
    tx = grow_and_prune(optax.adam(1e-2))

    def trained(is_sparse):
        @jax.jit
        def step(params, stats, state):
            live = {"live": masks.live_blocks(tx, state, 64)} if is_sparse else {}

            def loss(params):
                logits, new = sparse.apply(
                    {"params": params, "batch_stats": stats, **live}, x, mutable=["batch_stats"]
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
                return losses.mean(), new["batch_stats"]

            (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, state = tx.update(grads, state, params)
            dead = [
                jnp.sum(jnp.where(mask, 0, jnp.abs(grads[path.split("/")[0]]["kernel"])))
                for path, mask in state.masks.items()
            ]
            return optax.apply_updates(params, updates), stats, state, (value, sum(dead))

        state = tx.init(variables["params"])
        params, stats = masks.apply(variables["params"], state), variables["batch_stats"]
        told, live = [], []
        for _ in range(12):
            params, stats, state, (value, dead) = step(params, stats, state)
            told.append((float(value), float(dead)))
            live.append([int(mask.sum()) // 64**2 for mask in state.masks.values()])
        assert step._cache_size() == 1
        return params, np.array(told), live

    params, told, live = trained(is_sparse=True)
    dense, dense_told, dense_live = trained(is_sparse=False)
    assert live == dense_live
    # Grown and pruned: (2 x 2 blocks each), a quarter of them while sparse.
    assert [live[i] for i in (0, 2, 5, 8)] == [[4, 1], [1, 4], [4, 1], [1, 1]]
    np.testing.assert_allclose(told[:, 0], dense_told[:, 0], rtol=1e-3)
    assert told[-1, 0] < 0.7 * told[0, 0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-4), params, dense)
    # Dead blocks got no gradient, where dense products give one.
    assert told[-1, 1] == 0 < dense_told[-1, 1]


def live_of_all(params):
    return {path: jnp.ones((n // 64, m // 64), bool) for path, (n, m) in params.items()}


def test_a_model_is_itself_without_live_blocks() -> None:
    x = jax.random.normal(jax.random.key(1), (2, 128))
    sparse = masks.linen.block_sparse(Mlp())
    variables = sparse.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, Mlp().init(jax.random.key(0), x))
    plain = Mlp().apply(variables, x, mutable=["batch_stats"])[0]
    for live in ({}, {"live": {}}, {"live": live_of_all({"hidden_0/kernel": (128, HIDDEN)})}):
        output, state = sparse.apply({**variables, **live}, x, mutable=["batch_stats", "params"])
        np.testing.assert_allclose(output, plain, rtol=1e-5, atol=1e-5)
        assert jax.tree.structure(state) == jax.tree.structure(variables)
    none = {"live": {"hidden_1/kernel": jnp.zeros((2, 2), bool)}}
    output, _ = sparse.apply({**variables, **none}, x, mutable=["batch_stats"])
    np.testing.assert_allclose(output[0], output[1])
    assert np.abs(output - plain).max() > 1e-3


def test_mistakes_are_told() -> None:
    x = jnp.ones((2, 128))
    sparse = masks.linen.block_sparse(Mlp())
    variables = sparse.init(jax.random.key(0), x)
    prefixed = {"live": {"params/hidden_0/kernel": jnp.ones((2, 2), bool)}}
    with pytest.raises(
        ValueError, match='no parameter params/hidden_0/kernel; paths begin below "params"'
    ):
        sparse.apply({**variables, **prefixed}, x)
    own = masks.linen.block_sparse(nn.Dense(64, dot_general=jax.lax.dot_general))
    variables = own.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="already has a dot_general of its own"):
        own.apply({**variables, "live": {"kernel": jnp.ones((2, 1), bool)}}, x)


def test_lifted_transformations_carry_the_blocks() -> None:
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(128, name="layer")(x), None

    class Repeated(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.jit(nn.remat(nn.Dense))(128, name="twice")
            many = nn.scan(
                Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
            )
            return many(name="scanned")(layer(layer(x)), None)[0]

    model = masks.linen.block_sparse(Repeated())
    x = jax.random.normal(jax.random.key(1), (4, 128))
    params = model.init(jax.random.key(0), x)["params"]
    grid = jnp.array([[True, False], [True, True]])
    for grids in (grid, grid.T):  # Not a constant of a program that was compiled before.
        live = {"twice/kernel": grids, "scanned/layer/kernel": jnp.stack([grids, grids.T])}
        whole = {path: np.kron(np.asarray(g), np.ones((64, 64), bool)) for path, g in live.items()}

        def loss(params, live):
            return jnp.sum(model.apply({"params": params, "live": live}, x) ** 2)

        def masked(path, leaf, whole=whole):
            return jnp.where(whole.get(tree.join(path), True), leaf, 0)

        def masked_loss(params, masked=masked):
            return loss(jax.tree_util.tree_map_with_path(masked, params), {})

        found, expected = (
            jax.value_and_grad(loss)(params, live),
            jax.value_and_grad(masked_loss)(params),
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected
        )


def test_backward_and_masks_do_not_lend_a_layer_two_products() -> None:
    rules = {"kernel": backward.top_k(0.5)}
    inner = backward.linen.sparsify(nn.Dense(64), rules)
    x = jnp.ones((2, 64))
    variables = inner.init(jax.random.key(0), x)
    both = masks.linen.block_sparse(inner)
    with pytest.raises(ValueError, match="already has a dot_general of its own"):
        both.apply({**variables, "live": {"kernel": jnp.ones((1, 1), bool)}}, x)


@pytest.mark.parametrize("name", targets.MESHES)
def test_a_layer_is_three_kernels(name) -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for layer in range(2):
                x = nn.relu(nn.Dense(256, name=f"hidden_{layer}", dtype=jnp.bfloat16)(x))
            return nn.Dense(10, name="output", dtype=jnp.bfloat16)(x)

    sparse = masks.linen.block_sparse(Net())
    x = jnp.ones((2, 64, 128), jnp.bfloat16)
    params = sparse.init(jax.random.key(0), x)["params"]
    tx = grow_and_prune(optax.sgd(0.1), block=128)
    state = jax.eval_shape(tx.init, params)

    def loss(params, x, state):
        live = masks.live_blocks(tx, state)
        output = sparse.apply({"params": params, "live": live}, x)
        return jnp.sum(output.astype(jnp.float32) ** 2)

    grad = jax.grad(loss, argnums=(0, 1))
    calls = targets.custom_calls(name, grad, params, x, state)
    assert calls.count(targets.CALLS[name]) == 6
