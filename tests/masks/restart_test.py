import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress, masks, tree
from sparsetrain.compress.local_steps import LocalStepsState
from sparsetrain.compress.transform import ExchangeState

KEY = jax.random.key(0)
WORKERS, STEPS, EVERY, PHASE = 3, 14, 2, 4
PARAMS = {
    name: jax.random.normal(key, (6, 5))
    for name, key in zip("ab", jax.random.split(KEY), strict=True)
} | {"bias": jnp.ones(5)}
TARGETS = jax.random.normal(jax.random.key(1), (WORKERS, 6, 5))


def local():
    return compress.local_steps(
        optax.sgd(0.1, momentum=0.9), EVERY, compress.top_k(0.2), axis_name="workers"
    )


def gap(inner):
    parts = masks.partitions({"first": "a", "second": "b"})
    times = {"steps_per_phase": PHASE, "phases": 2}
    return masks.grow_and_prune(inner, 0.3, parts, **times, key=KEY, axis_name="workers")


METHODS = {
    "C-GaP": gap,
    "GMP": lambda inner: masks.gradual(inner, 0.3, begin=4, end=8, every=4, axis_name="workers"),
}


def trained(tx):
    """States after every step, with the workers in front."""

    def step(carry, _, target):
        params, state = carry
        grads = {
            name: leaf - (target if leaf.ndim == 2 else target[0]) for name, leaf in params.items()
        }
        moves, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, moves), state), (params, state)

    @jax.jit
    @functools.partial(jax.vmap, axis_name="workers", in_axes=(None, 0), out_axes=1)
    def train(params, target):
        state = tx.init(params)
        start = masks.apply(params, state), state
        return jax.lax.scan(functools.partial(step, target=target), start, length=STEPS)[1]

    return train(PARAMS, TARGETS)


@pytest.mark.parametrize("name", METHODS)
def test_workers_agree_and_send_nothing_about_dead_weights(name):
    _, states = trained(METHODS[name](local()))
    found = masks.find(states)
    (inner,) = tree.nodes(LocalStepsState, states)
    report = compress.report(jax.tree.map(lambda leaf: leaf[-1], states))
    # Every step of every phase is booked, and every message.
    size = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    assert report["dense_bits"] == 32 * size * STEPS * WORKERS
    bits = np.asarray(inner.ledger.payload_bits.low, np.int64)
    assert (np.diff(bits[EVERY - 1 :: EVERY], axis=0) > 0).all()
    assert (np.asarray(inner.step[-1]) == STEPS).all()
    for path, live in found.masks.items():
        assert (live[:, :1] == live).all(), path
        anchors = np.asarray(inner.anchor[path])
        assert (anchors[:, :1] == anchors).all(), path
        # Masks change at the end of an update, and what was copied of dead weights goes at the next.
        assert not live[-1].all()
        for step in range(STEPS):
            if step == 0 or (live[step] == live[step - 1]).all():
                dead = ~np.asarray(live[step])
                assert not anchors[step][dead].any(), (path, step)
                assert not np.asarray(inner.memory.residual[path])[step][dead].any()


def test_what_is_owed_to_live_weights_outlives_a_phase():
    tx = gap(
        optax.chain(compress.exchange(compress.top_k(0.2), axis_name="workers"), optax.sgd(0.1))
    )
    params, states = trained(tx)
    (inner,) = tree.nodes(ExchangeState, states)
    live = masks.find(states).masks["a"][PHASE]
    before, after = (inner.memory.residual["a"][t] for t in (PHASE - 1, PHASE))
    assert before[live].any() and not after[~live].any()
    # The new phase adds one gradient to what is left, and sends the largest entries.
    gradient = jnp.where(live, params["a"][PHASE] - TARGETS, 0.0)
    waiting = jnp.where(live, before, 0.0) + gradient
    same = after == waiting
    assert int((~same).sum()) <= WORKERS * 6
    np.testing.assert_array_equal(after[~same], 0)
