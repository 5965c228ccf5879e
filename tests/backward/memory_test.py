"""carry_memory inside optax's combinators, and the helpers for loss scaling."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from sparsetrain import backward
from sparsetrain.backward.row_sparse import RowSparse


def variables():
    return {
        "params": {"a": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.ones(3)}, "none": None},
        "memory": {"a": {"kernel": jnp.arange(3.0)}},
        "batch_stats": {"mean": jnp.ones(3)},
    }


def gradients():
    return jax.tree.map(jnp.ones_like, variables())


def one_update(tx, tree=None, grads=None):
    tree = variables() if tree is None else tree
    grads = gradients() if grads is None else grads
    updates, state = tx.update(grads, tx.init(tree), tree)
    return optax.apply_updates(tree, updates), state


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "clip": optax.chain(optax.clip_by_global_norm(1e-3), optax.adam(0.1)),
    "hyperparams": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "masked": optax.masked(optax.sgd(0.1), lambda p: jax.tree.map(lambda a: a.ndim > 1, p)),
    "lamb": optax.lamb(0.1),
    "schedule": optax.sgd(optax.linear_schedule(0.1, 0.0, 10)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_treatments(name: str) -> None:
    tx = OPTIMIZERS[name]
    new, _ = one_update(backward.carry_memory(tx))
    params, _ = one_update(tx, variables()["params"], gradients()["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new["params"], params)
    np.testing.assert_array_equal(new["memory"]["a"]["kernel"], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(new["batch_stats"]["mean"], [1.0, 1.0, 1.0])


def test_extra_arguments_reach_the_optimizer() -> None:
    tx = backward.carry_memory(optax.polyak_sgd(1.0))
    tree = variables()
    updates, _ = tx.update(gradients(), tx.init(tree), tree, value=jnp.float32(0.9))
    # polyak: step = value / ||g||^2, nine ones in the parameters (the memory does not count)
    np.testing.assert_allclose(updates["params"]["a"]["bias"], -0.1, rtol=1e-5)


def test_state_is_stable_under_jit_and_cond() -> None:
    tx = backward.carry_memory(optax.adam(0.1))
    tree = variables()
    state = tx.init(tree)

    @jax.jit
    def step(flag, state):
        return jax.lax.cond(flag, lambda s: tx.update(gradients(), s, tree)[1], lambda s: s, state)

    for flag in (True, False):
        state = step(flag, state)
    assert step._cache_size() == 1


def test_multi_steps_inside_carries_whole_increments() -> None:
    tx = backward.carry_memory(optax.MultiSteps(optax.sgd(0.1), 2))
    tree = variables()
    state = tx.init(tree)
    for _ in range(2):
        updates, state = tx.update(gradients(), state, tree)
        tree = optax.apply_updates(tree, updates)
    np.testing.assert_array_equal(tree["memory"]["a"]["kernel"], [2.0, 3.0, 4.0])
    np.testing.assert_allclose(tree["params"]["a"]["bias"], 0.9, rtol=1e-6)


def test_multi_steps_outside_divides_the_memory_as_documented() -> None:
    tx = optax.MultiSteps(backward.carry_memory(optax.sgd(0.1)), 2)
    tree = variables()
    state = tx.init(tree)
    for _ in range(2):
        updates, state = tx.update(gradients(), state, tree)
        tree = optax.apply_updates(tree, updates)
    np.testing.assert_array_equal(tree["memory"]["a"]["kernel"], [1.0, 2.0, 3.0])


def test_two_models_side_by_side() -> None:
    tree = {"generator": variables(), "critic": variables()}
    grads = {"generator": gradients(), "critic": gradients()}
    new, _ = one_update(backward.carry_memory(optax.sgd(0.1)), tree, grads)
    for part in new.values():
        np.testing.assert_array_equal(part["memory"]["a"]["kernel"], [1.0, 2.0, 3.0])
        np.testing.assert_allclose(part["params"]["a"]["bias"], 0.9)
        np.testing.assert_array_equal(part["batch_stats"]["mean"], 1.0)


def test_frozen_dict_and_parameters_alone() -> None:
    tx = backward.carry_memory(optax.sgd(0.1))
    new, _ = one_update(tx, FrozenDict(variables()), FrozenDict(gradients()))
    assert isinstance(new, FrozenDict)
    np.testing.assert_array_equal(new["memory"]["a"]["kernel"], [1.0, 2.0, 3.0])
    new, _ = one_update(tx, {"w": jnp.ones(2)}, {"w": jnp.ones(2)})
    np.testing.assert_allclose(new["w"], 0.9)


def test_rescale_and_unscale() -> None:
    scaled = backward.rescale_memory(variables(), 1024.0, 256.0)
    np.testing.assert_array_equal(scaled["memory"]["a"]["kernel"], [0.0, 0.25, 0.5])
    np.testing.assert_array_equal(scaled["params"]["a"]["bias"], 1.0)
    grads = backward.unscale(gradients(), 4.0)
    np.testing.assert_array_equal(grads["params"]["a"]["kernel"], 0.25)
    np.testing.assert_array_equal(grads["memory"]["a"]["kernel"], 1.0)
    tap = RowSparse(jnp.ones((2, 3)), jnp.array([4.0, 5.0]), jnp.ones(()), 0)
    grads = backward.unscale({**gradients(), "row_sparse": {"a": {"kernel": tap}}}, 4.0)
    np.testing.assert_array_equal(grads["row_sparse"]["a"]["kernel"].values, 0.25)
    np.testing.assert_array_equal(grads["row_sparse"]["a"]["kernel"].columns, [4.0, 5.0])
    counter = backward.rescale_memory({"params": {}, "memory": {"a": jnp.float32(7.0)}}, 4.0, 2.0)
    assert counter["memory"]["a"] == 7.0  # random_k's step counter is no error memory


def test_loss_scaling_is_invisible() -> None:
    """Training under loss scales that change equals training without, bit for bit (powers of two)."""
    rule = backward.memorized_top_k(0.25, 0.8)
    x = jax.random.normal(jax.random.key(0), (8, 5))
    numbers = (((1,), (0,)), ((), ()))

    def loss(v, scale):
        y = backward.sparse_dot_general(x, v["params"], v["memory"], numbers, rule)
        return scale * jnp.mean((y - 1.0) ** 2)

    def train(scales):
        v = {"params": jnp.ones((5, 12)), "memory": rule.init((12,))}
        tx = backward.carry_memory(optax.adam(0.1))
        state, previous = tx.init(v), scales[0]
        for scale in scales:
            v, previous = backward.rescale_memory(v, previous, scale), scale
            grads = backward.unscale(jax.grad(loss)(v, scale), scale)
            updates, state = tx.update(grads, state, v)
            v = optax.apply_updates(v, updates)
        return v["params"]

    np.testing.assert_array_equal(train([1.0] * 6), train([64.0, 64.0, 1024.0, 2.0, 2.0, 32.0]))
