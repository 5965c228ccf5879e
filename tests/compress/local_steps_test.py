import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress

W, EVERY = 4, 5
X = jax.random.normal(jax.random.key(0), (W, 8, 20))
Y = jax.random.normal(jax.random.key(1), (W, 8, 30))
START = {"w": 0.05 * jax.random.normal(jax.random.key(2), (20, 30)), "b": jnp.zeros(30)}


def loss(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"][None] - y) ** 2)


def train(tx, steps, synced=False):
    """Parameters and states of all workers after some steps, set to the anchor at every boundary if wished."""

    def one(params, state, x, y):
        updates, state = tx.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(jax.vmap(one, axis_name="workers"))
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * W), START)
    state = jax.vmap(tx.init)(params)
    for number in range(steps):
        if synced and number % EVERY == 0:
            params = compress.sync(params, state)
        params, state = step(params, state, X, Y)
    return params, state


def federated_averaging(inner, rounds):
    """By hand: every worker for some steps, then the mean of what they have moved."""

    # Applied outside: in one program the compiler may round product and sum only once.
    @jax.jit
    @jax.vmap
    def local(params, state, x, y):
        return inner.update(jax.grad(loss)(params, x, y), state, params)

    @jax.jit
    def average(server, ends):
        drift = jax.tree.map(lambda ends, start: ends - start[None], ends, server)
        return jax.tree.map(lambda start, d: start + jnp.mean(d, axis=0), server, drift)

    server = START
    states = jax.vmap(inner.init)(jax.tree.map(lambda leaf: jnp.stack([leaf] * W), START))
    for _ in range(rounds):
        params = jax.tree.map(lambda leaf: jnp.stack([leaf] * W), server)
        for _ in range(EVERY):
            updates, states = local(params, states, X, Y)
            params = optax.apply_updates(params, updates)
        server = average(server, params)
    return server


def test_density_one_is_federated_averaging_bit_for_bit():
    inner = optax.sgd(1e-2, momentum=0.9)
    tx = compress.local_steps(inner, EVERY, compress.top_k(1.0), axis_name="workers")
    params, state = train(tx, 4 * EVERY, synced=True)
    expected = federated_averaging(inner, 4)
    for name in START:
        for worker in range(W):
            np.testing.assert_array_equal(state.anchor[name][worker], expected[name])
        # p + (anchor - p) rounds once more, by a unit in the last place of the larger of the two.
        anchor = np.asarray(state.anchor[name])
        off = np.abs(np.asarray(params[name]) - anchor)
        assert off.max() <= np.spacing(np.abs(anchor).max()) and off.any()
    synced = compress.sync(params, state)
    for name in START:
        np.testing.assert_array_equal(synced[name][0], expected[name])


@pytest.mark.parametrize(
    "compressor", [compress.sparse_binary(0.05), compress.top_k(0.1), compress.global_top_k(0.1)]
)
def test_anchors_are_bit_identical_across_workers(compressor):
    tx = compress.local_steps(optax.adam(1e-2), EVERY, compressor, axis_name="workers")
    _, state = train(tx, 3 * EVERY + 2)
    for leaf in jax.tree.leaves(state.anchor):
        assert bool(jnp.all(leaf == leaf[:1]))


def test_conservation_over_rounds():
    """Anchor movement plus mean residual is the mean of all local movement."""
    tx = compress.local_steps(
        optax.sgd(1e-2), EVERY, compress.sparse_binary(0.05), axis_name="workers"
    )
    _, first = train(tx, EVERY)
    moved = jax.tree.map(lambda anchor, start: anchor[0] - start, first.anchor, START)

    def alone(x, y):
        params = START
        for _ in range(EVERY):
            params = jax.tree.map(lambda p, g: p - 1e-2 * g, params, jax.grad(loss)(params, x, y))
        return jax.tree.map(jnp.subtract, params, START)

    local = jax.vmap(alone)(X, Y)
    for name in START:
        total = moved[name] + first.memory.residual[name].mean(0)
        np.testing.assert_allclose(total, local[name].mean(0), rtol=1e-4, atol=1e-7)


def test_between_rounds_the_inner_optimizer_is_untouched():
    inner = optax.adam(1e-2)
    tx = compress.local_steps(inner, EVERY, compress.top_k(0.1))
    state, plain = tx.init(START), inner.init(START)
    params = plain_params = START
    for _ in range(EVERY - 1):
        g = jax.grad(loss)(params, X[0], Y[0])
        updates, state = tx.update(g, state, params)
        expected, plain = inner.update(g, plain, plain_params)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        params = optax.apply_updates(params, updates)
        plain_params = optax.apply_updates(plain_params, expected)
    assert int(state.ledger.payload_bits) == 0
    assert int(state.ledger.dense_bits) == (EVERY - 1) * 32 * 630


def test_boundary_stays_a_branch_under_vmap():
    tx = compress.local_steps(optax.sgd(0.1), EVERY, compress.top_k(0.1), axis_name="workers")
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * W), START)
    state = jax.vmap(tx.init)(params)
    step = jax.vmap(functools.partial(tx.update), axis_name="workers")
    conditions, selections = [], []

    def walk(jaxpr, inside):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "cond":
                conditions.append(equation)
            if equation.primitive.name in ("top_k", "sort"):
                selections.append(inside)
            for part in jax.extend.core.jaxprs_in_params(equation.params):
                walk(part, inside or equation.primitive.name == "cond")

    walk(jax.make_jaxpr(step)(params, state, params).jaxpr, False)
    assert conditions
    assert selections and all(selections)  # None beside the branch.


def test_outer_momentum_is_diloco():
    outer = optax.sgd(0.7, momentum=0.9, nesterov=True)
    tx = compress.local_steps(
        optax.adam(1e-2), EVERY, compress.top_k(1.0), outer, axis_name="workers"
    )
    _, state = train(tx, 2 * EVERY)

    inner = optax.adam(1e-2)
    server, outer_state = START, outer.init(START)
    states = [inner.init(START) for _ in range(W)]
    for _ in range(2):
        ends = []
        for worker in range(W):
            params = server
            for _ in range(EVERY):
                g = jax.grad(loss)(params, X[worker], Y[worker])
                updates, states[worker] = inner.update(g, states[worker], params)
                params = optax.apply_updates(params, updates)
            ends.append(params)
        pseudo = jax.tree.map(lambda s, *e: s - sum(e) / W, server, *ends)
        updates, outer_state = outer.update(pseudo, outer_state, server)
        server = optax.apply_updates(server, updates)
    for name in START:
        np.testing.assert_allclose(state.anchor[name][0], server[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("masking", [None, "first", "all"])
def test_momentum_masking(masking):
    tx = compress.local_steps(optax.adam(1e-2), 2, compress.top_k(0.5), momentum_masking=masking)
    params = jnp.zeros(4)
    state = tx.init(params)
    g = jnp.array([4.0, 3.0, 0.2, 0.1])
    for _ in range(2):
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
    sent = np.asarray(params != 0)
    assert sent.sum() == 2
    moments = state.inner[0]
    assert bool(np.any(moments.mu[sent])) == (masking is None)
    assert bool(np.any(moments.nu[sent])) == (masking != "all")
    assert np.all(moments.mu[~sent])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: compress.local_steps(optax.sgd(1), 0, compress.top_k(1.0)), ValueError, "every=0"),
        (
            lambda: compress.local_steps(
                optax.sgd(1), 2, compress.top_k(1.0), momentum_masking="both"
            ),
            ValueError,
            "momentum_masking='both'",
        ),
        (lambda: compress.local_steps(optax.sgd(1), 2, "top_k"), TypeError, "compressor='top_k'"),
        (
            lambda: compress.local_steps(optax.sgd(1.0), 2, compress.top_k(1.0)).update(
                START,
                compress.local_steps(optax.sgd(1.0), 2, compress.top_k(1.0)).init(START),
            ),
            ValueError,
            r"update\(grads, state, params\)",
        ),
        (lambda: compress.sync(START, optax.EmptyState()), ValueError, "holds 0 local_steps"),
    ],
)
def test_errors_name_the_cure(call, error, message):
    with pytest.raises(error, match=message):
        call()
