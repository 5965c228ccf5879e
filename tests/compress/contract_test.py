"""What every registered compressor must do, whatever it sends."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from sparsetrain import compress
from sparsetrain.payload import is_payload

SETTINGS = {
    "density": 0.3,
    "threshold": 1.0,
    "largest": 0.5,
    "rank": 2,
    "min_compression_rate": 1.0,
    "start_after": 0,
    "key": jax.random.key(0),
}
NAMES = sorted(compress.COMPRESSORS)
# A sign has no zero: these send something even of nothing.
NEVER_SILENT = {"sign"}
# What workers agree on is not the plain mean of what one of them sent.
NOT_THE_MEAN = {"sign", "both_ways"}

# Few and small: every compressor is compiled for them.
SHAPES = {
    "matrix": ((6, 8), jnp.float32),
    "vector": ((10,), jnp.bfloat16),
    "scalar": ((), jnp.float32),
    "empty": ((0, 3), jnp.float32),
}


def make(name, **changes):
    factory = compress.COMPRESSORS[name]
    known = inspect.signature(factory).parameters
    settings = SETTINGS | changes
    return factory(**{key: value for key, value in settings.items() if key in known})


@functools.cache
def gradients(seed=0):
    rng = np.random.default_rng(seed)
    tree = {
        name: jnp.asarray(rng.standard_normal(shape), dtype)
        for name, (shape, dtype) in SHAPES.items()
    }
    return {**tree, "nothing": None}


def params():
    return jax.tree.map(jnp.zeros_like, gradients())


def assert_like(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def is_finite(tree):
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


@functools.cache
def program(name):
    """The transformation and its compiled update, which all tests of a compressor share."""
    tx = compress.exchange(make(name))
    return tx, jax.jit(tx.update)


@functools.cache
def run(name):
    """States and updates of three steps, the start included."""
    tx, step = program(name)
    states, updates = [tx.init(params())], []
    for seed in range(3):
        update, state = step(gradients(seed), states[-1], params())
        states.append(state)
        updates.append(update)
    return states, updates


@pytest.mark.parametrize("name", NAMES)
def test_is_a_compressor_with_payloads_that_know_their_size(name):
    compressor = make(name)
    assert isinstance(compressor, compress.Compressor)

    def compressed(u):
        payloads, state = compressor.compress(u, compressor.init(params()))
        return payloads, state, compressor.decompress(payloads)

    u = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients())
    payloads, state, back = jax.eval_shape(compressed, u)
    nodes = jax.tree.leaves(payloads, is_leaf=is_payload)
    assert nodes and all(is_payload(node) for node in nodes)
    assert jax.tree.structure(state) == jax.tree.structure(compressor.init(params()))
    assert [leaf.shape for leaf in jax.tree.leaves(back)] == [
        leaf.shape for leaf in jax.tree.leaves(u)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_keeps_structure_and_dtypes_and_compiles_once(name):
    states, updates = run(name)
    for state, update in zip(states[1:], updates, strict=True):
        assert_like(update, gradients())
        assert_like(state, states[0])
        assert is_finite(update)
    bits = [compress.report(state)["bits_sent"] for state in states]
    assert bits[0] == 0 and bits == sorted(set(bits))
    assert program(name)[1]._cache_size() == 1


@pytest.mark.parametrize("name", NAMES)
def test_conserves_under_error_feedback(name):
    states, updates = run(name)
    fed = sent = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params())
    for seed, update in enumerate(updates):
        g = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients(seed))
        before, after = (states[seed + i].memory.residual for i in (0, 1))
        accepted = jax.tree.map(lambda r, g, new: r + g - new, before, g, after)
        if name not in NOT_THE_MEAN:
            for a, b in zip(jax.tree.leaves(update), jax.tree.leaves(accepted), strict=True):
                close = 1e-2 if a.dtype == jnp.bfloat16 else 1e-5
                np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=close, atol=close)
        fed = jax.tree.map(jnp.add, fed, g)
        sent = jax.tree.map(jnp.add, sent, accepted)
    left = states[-1].memory.residual
    for a, b, r in zip(*map(jax.tree.leaves, (fed, sent, left)), strict=True):
        np.testing.assert_allclose(a, b + r, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_of_nothing(name):
    if name in NEVER_SILENT:
        pytest.skip("a sign has no zero")
    tx, step = program(name)
    updates, state = step(params(), tx.init(params()), params())
    for leaf in jax.tree.leaves((updates, state.memory)):
        assert not np.asarray(leaf, np.float32).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_input_is_not_sent_and_not_remembered(name, bad):
    before, step = run(name)[0][1], program(name)[1]
    broken = {**gradients(1), "matrix": gradients(1)["matrix"].at[3, 2].set(bad)}
    updates, after = step(broken, before, params())
    for leaf in jax.tree.leaves(updates):
        assert not np.asarray(leaf, np.float32).any()
    for a, b in zip(jax.tree.leaves(after.memory), jax.tree.leaves(before.memory), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(after.nonfinite) == 1
    assert compress.report(after)["bits_this_step"] == 0
    assert is_finite(step(gradients(2), after, params())[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("density", [1.0, 1e-6])
def test_extreme_densities(name, density):
    if "density" not in inspect.signature(compress.COMPRESSORS[name]).parameters:
        pytest.skip("has no density")
    compressor = make(name, density=density)
    u = {"w": jnp.linspace(-1.0, 2.0, 40).reshape(5, 8)}

    @jax.jit
    def dense(u):
        payloads, _ = compressor.compress(u, compressor.init(u))
        return jax.tree.leaves(compressor.decompress(payloads))

    (w,) = dense(u)
    assert is_finite(w)
    assert int((w != 0).sum()) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_integer_leaves_are_refused(name):
    with pytest.raises(TypeError, match="leaf 'steps' has dtype int32"):
        compress.exchange(make(name)).init({"steps": jnp.zeros(3, jnp.int32)})


def wrapped(tx):
    """The transformation inside optax's own wrappers."""
    only = {key: key == "matrix" for key in SHAPES} | {"nothing": None}
    labels = {key: "sent" if key == "matrix" else "kept" for key in SHAPES} | {"nothing": None}
    multi = optax.MultiSteps(optax.chain(tx, optax.sgd(0.1)), 2)
    return {
        "MultiSteps": multi.gradient_transformation(),
        "masked": optax.masked(tx, only),
        "partition": optax.partition({"sent": tx, "kept": optax.identity()}, labels),
        "inject_hyperparams": optax.chain(
            tx, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        ),
    }


@pytest.mark.parametrize("name", NAMES)
def test_lives_inside_optax(name):
    """Traced and not compiled: types and structures must come out as they went in."""
    compressor = make(name)
    wrappers = wrapped(compress.exchange(compressor))
    wrappers["local_steps"] = compress.local_steps(optax.adam(1e-2), 2, compressor)
    for wrapper, tx in wrappers.items():
        state = tx.init(params())
        updates, after = jax.eval_shape(tx.update, gradients(), state, params())
        if wrapper != "inject_hyperparams":  # It makes low-precision updates float32 by itself.
            assert_like(updates, gradients())
        assert_like(after, jax.eval_shape(lambda state=state: state))
        assert len(compress.find_ledgers(state)) == 1, wrapper


@pytest.mark.parametrize("name", NAMES)
def test_simulated_workers_agree(name):
    tx = compress.exchange(make(name), axis_name="workers")
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(gradients(s) for s in range(4)))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), params())
    state = jax.vmap(tx.init)(many)
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    for _ in range(2):
        updates, state = step(stack, state, many)
    for leaf in jax.tree.leaves(updates):
        leaf = np.asarray(leaf, np.float32)
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
        assert np.isfinite(leaf).all()
    assert step._cache_size() == 1


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_a_checkpoint(name, tmp_path):
    step, state = program(name)[1], run(name)[0][1]
    # Orbax saves no empty arrays.
    full = jax.tree.map(lambda leaf: leaf if leaf.size else None, state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", full)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.eval_shape(lambda: full))
    leaves = iter(jax.tree.leaves(restored))
    restored = jax.tree.map(lambda leaf: next(leaves) if leaf.size else leaf, state)
    again, _ = step(gradients(1), restored, params())
    for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(run(name)[1][1]), strict=True):
        np.testing.assert_array_equal(x, y)
