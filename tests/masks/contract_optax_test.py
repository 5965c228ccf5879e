"""Every method around, inside and between the transformations that optax has."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sparsetrain import masks
from tests.masks.registry import (
    KEY,
    NAMES,
    PARTS,
    UPDATES,
    check_zero,
    gradients,
    make,
    model,
    plain,
    quick_jit,
)

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 50), momentum=0.9),
    "adam": lambda: optax.adam(1e-2),
    "lion": lambda: optax.lion(1e-2),
    "adafactor": lambda: optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "accumulated": lambda: optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "muon": lambda: optax.contrib.muon(1e-2),
    "plateau": plain,
}


def train(tx, params, grads, updates=UPDATES):
    state = quick_jit(tx.init)(params)
    params = masks.apply(params, state)
    update = quick_jit(tx.update)
    for step in range(updates):
        moves, state = update(grads(step), state, params, value=jnp.float32(1.0))
        params = optax.apply_updates(params, moves)
        yield params, state
    assert update._cache_size() == 1


def together():
    """A model with a layer for every optimizer, which a single program then runs."""
    rng = np.random.default_rng(0)
    params = {name: {"kernel": rng.standard_normal((4, 6), np.float32)} for name in OPTIMIZERS}
    params = jax.tree.map(jnp.asarray, {**params, "a": {"kernel": params["sgd"]["kernel"]}})
    labels = {**{name: name for name in OPTIMIZERS}, "a": "adam"}
    return params, optax.partition({name: each() for name, each in OPTIMIZERS.items()}, labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_at_once(name):
    params, inner = together()

    def grads(step):
        rng = np.random.default_rng(step)
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, np.float32)), params
        )

    start = params
    for number, (found, state) in enumerate(train(make(name, inner), params, grads), 1):
        check_zero(found, state, number)
    for path, mask in masks.find(state).masks.items():
        layer = path.split("/")[0]
        moved = found[layer]["kernel"] != start[layer]["kernel"]
        assert np.all(np.isfinite(found[layer]["kernel"])) and np.any(moved & mask), layer


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_alone(optimizer):
    """Around the method that starts single entries of the state anew."""
    for number, (params, state) in enumerate(
        train(make("rigl", OPTIMIZERS[optimizer]()), model(), gradients, updates=5), 1
    ):
        check_zero(params, state, number)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "inner",
    [
        optax.adam(1e-2),
        optax.masked(optax.adam(1e-2), lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)),
        optax.contrib.muon(1e-2),
    ],
)
def test_moments_of_grown_weights_start_at_zero(inner):
    tx = masks.evolutionary(
        inner, 0.5, key=KEY, every=2, until=50, fraction=0.6, distribution="uniform"
    )
    before, grown_at_all = jax.eval_shape(tx.init, model()).masks, 0
    for number, (_, state) in enumerate(train(tx, model(), gradients, 10), 1):
        if number > 1:
            grown = np.asarray(state.masks["b/kernel"] & ~before["b/kernel"])
            grown_at_all += grown.sum()
            for leaf in jax.tree.leaves(state.inner):
                assert leaf.shape != grown.shape or not np.any(np.asarray(leaf)[grown])
        before = state.masks
    assert grown_at_all > 20


def test_a_tree_that_is_not_that_of_init_is_refused():
    tx = make("static", optax.sgd(0.1))
    with pytest.raises(ValueError, match="no parameter a/kernel, b/kernel, c/kernel"):
        jax.eval_shape(tx.update, {"x": gradients(0)}, tx_state(tx), {"x": model()})


@pytest.mark.parametrize("name", NAMES)
def test_inside_an_accumulator_that_is_inside_a_chain(name):
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.MultiSteps(make(name, optax.adam(1e-2)), 2).gradient_transformation(),
    )
    last = None
    for number, (params, state) in enumerate(train(tx, model(), gradients, 2 * UPDATES), 1):
        assert int(masks.find(state).step) == number // 2
        check_zero(params, state, number)
        if number % 2 and last is not None:  # Nothing happens between.
            for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(last), strict=True):
                np.testing.assert_array_equal(a, b)
        last = params


@pytest.mark.parametrize("name", NAMES)
def test_extra_arguments_reach_the_inner_optimizer_and_are_needed_there(name):
    tx = make(name)
    state = jax.eval_shape(tx.init, model())
    with pytest.raises(TypeError, match="value"):
        jax.eval_shape(tx.update, gradients(0), state, model())
    seen = jax.eval_shape(
        functools.partial(tx.update, value=1.0, unknown=2.0), gradients(0), state, model()
    )
    assert jax.tree.structure(seen[1]) == jax.tree.structure(state)
    # And an inner optimizer that takes none is not bothered by them.
    tx = make(name, optax.sgd(0.1))
    jax.eval_shape(functools.partial(tx.update, value=1.0), gradients(0), tx_state(tx), model())


def tx_state(tx):
    return jax.eval_shape(tx.init, model())


def test_what_stands_behind_the_wrapper_can_move_masked_weights():
    """Why it must come last: half of the step that makes a pruned weight zero leaves the other half."""
    halved = optax.chain(make("grow_and_prune"), optax.scale(0.5))
    *_, (params, state) = train(halved, model(), gradients, 3)
    dead = np.asarray(params["a"]["kernel"])[~np.asarray(masks.find(state).masks["a/kernel"])]
    assert np.any(dead)
    *_, (params, state) = train(
        optax.chain(optax.scale(0.5), make("grow_and_prune")), model(), gradients, 3
    )
    check_zero(params, state)


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (2, 2), name="c")(x).reshape(len(x), -1)
        return nn.Dense(2, name="b")(nn.relu(nn.LayerNorm()(nn.Dense(6, name="a")(x))))


@pytest.mark.parametrize("name", ["grow_and_prune", "rigl"])
def test_linen(name):
    net, images = Small(), jnp.asarray(np.random.default_rng(0).standard_normal((8, 3, 3, 2)))
    params = jax.jit(net.init)(jax.random.key(0), images)["params"]
    tx = make(name, optax.adam(1e-2))
    state = quick_jit(tx.init)(params)
    params = masks.apply(params, state)

    @quick_jit
    def step(params, state):
        def loss(params):
            return jnp.mean(jnp.square(net.apply({"params": params}, images) - 1.0))

        value, grads = jax.value_and_grad(loss)(params)
        moves, state = tx.update(grads, state, params)
        return optax.apply_updates(params, moves), state, value

    losses = []
    for _ in range(UPDATES):
        params, state, value = step(params, state)
        check_zero(params, state)
        losses.append(value)
    assert np.all(np.isfinite(losses)) and step._cache_size() == 1
    assert set(masks.find(state).masks) == {"a/kernel", "b/kernel", "c/kernel"}


class Pair(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 6, rngs=rngs)
        self.b = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.relu(self.a(x)))


@pytest.mark.parametrize("name", ["deep_rewiring", "grow_and_prune", "rigl"])
def test_nnx(name):
    net = Pair(nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 4)))
    optimizer = nnx.Optimizer(net, make(name, optax.adam(1e-2)), wrt=nnx.Param)
    nnx.update(net, masks.apply(nnx.state(net, nnx.Param), optimizer.opt_state))

    @nnx.jit
    def step(net, optimizer):
        grads = nnx.grad(lambda net: jnp.mean(jnp.square(net(x) - 1.0)))(net)
        optimizer.update(net, grads)

    for number in range(UPDATES):
        step(net, optimizer)
        check_zero(nnx.state(net, nnx.Param), optimizer.opt_state, number)
    assert len(masks.find(optimizer.opt_state).masks) == 2
    assert PARTS.assign(nnx.state(net, nnx.Param))
