"""Other workers than before: what parameters will still receive stays, counts stay exact."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from sparsetrain import compress
from sparsetrain.compress.ledger import Ledger
from sparsetrain.training.resize import resized, weights
from sparsetrain.training.state import TrainState
from sparsetrain.training.workers import Workers

PAIRS = [(4, 2), (2, 4), (4, 3), (3, 4), (4, 1), (1, 3), (5, 2)]
SIZE = 6


def rows(state, count):
    """With a leading axis, whether there are several workers or one."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], state) if count == 1 else state


@functools.cache
def trained(make, count, steps=7):
    """Workers after some steps with gradients of their own."""
    one, workers, tx = jnp.arange(SIZE, dtype=jnp.float32), Workers(count), make(count)
    params, state = workers.stacked({"w": one}), workers.stacked(tx.init({"w": one}))

    def step(params, state, g):
        updates, state = tx.update({"w": g}, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(jax.vmap(step, axis_name="workers") if count > 1 else step)
    rng = np.random.default_rng(count)
    for _ in range(steps):
        shape = (count, SIZE) if count > 1 else (SIZE,)
        params, state = step(params, state, rng.standard_normal(shape).astype(np.float32))
    return TrainState(jnp.int32(steps), {"params": params}, state, jax.random.key(0))


def exchanging(count, **options):
    return compress.exchange(
        compress.top_k(0.2), axis_name="workers" if count > 1 else None, **options
    )


def correcting(count):
    return exchanging(count, memory=compress.momentum_correction(0.9))


def walking(count):
    return compress.local_steps(
        optax.adam(0.1),
        4,
        compress.sparse_binary(0.2),
        axis_name="workers" if count > 1 else None,
    )


@pytest.mark.parametrize(("before", "after"), [*PAIRS, (7, 7), (64, 6)])
def test_weights_share_everything_out(before, after):
    found = weights(before, after)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(found.sum(0), after / before, rtol=1e-12)
    # As even as can be: nobody takes of more old workers than he must.
    assert (np.count_nonzero(found, axis=1) <= -(-before // after) + 1).all()


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_parameters_receive_what_the_old_workers_held_back(before, after):
    """Not by the words of the code: new workers send all they have, and nothing is added."""
    old = trained(exchanging, before)
    new = resized(old, before, after)
    everything = compress.exchange(compress.top_k(1.0), axis_name="workers" if after > 1 else None)
    update = jax.vmap(everything.update, axis_name="workers") if after > 1 else everything.update
    updates, state = jax.jit(update)(
        jax.tree.map(jnp.zeros_like, new.variables["params"]), new.opt_state
    )
    held = np.asarray(rows(old.opt_state.memory.residual, before)["w"]).mean(0)
    for received in rows(updates, after)["w"]:
        np.testing.assert_allclose(received, held, rtol=1e-5, atol=1e-6)
    assert not np.any(state.memory.residual["w"]) and np.any(held)


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 1), (3, 2)])
def test_in_the_middle_of_a_round_the_ways_from_the_anchor_count_too(before, after):
    old = trained(walking, before, steps=6)  # Two steps behind an exchange.
    new = resized(old, before, after)

    def outstanding(state, count):
        state = rows(state[1:3], count)
        anchor = np.asarray(state[1].anchor["w"])
        assert (anchor == anchor[0]).all()
        moved = np.asarray(state[0]["params"]["w"]) - anchor
        return (moved + state[1].memory.residual["w"]).mean(0), anchor[0]

    (wanted, anchor), (found, same) = outstanding(old, before), outstanding(new, after)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(anchor, same)
    assert np.abs(wanted).max() > 0.01
    inner = rows(new.opt_state.inner, after)[0]
    assert (np.asarray(inner.count) == 6).all() and (np.asarray(inner.nu["w"]) > 0).all()
    mean = np.asarray(rows(old.opt_state.inner, before)[0].mu["w"]).mean(0)
    np.testing.assert_allclose(np.asarray(inner.mu["w"]).mean(0), mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_was_sent_stays_counted_to_the_bit(before, after):
    old = trained(correcting, before, steps=3)
    large = old.opt_state.ledger.payload_bits._replace(  # Carries into the high word.
        low=jnp.full_like(old.opt_state.ledger.payload_bits.low, 2**32 - 5)
    )
    ledger = old.opt_state.ledger._replace(payload_bits=large)
    silent = old.opt_state.nonfinite + 3
    old = old._replace(opt_state=old.opt_state._replace(ledger=ledger, nonfinite=silent))
    new = resized(old, before, after)
    assert compress.report(new.opt_state) == compress.report(old.opt_state)
    assert compress.report(new.opt_state)["bits_sent"] == before * (2**32 - 5)
    assert np.sum(new.opt_state.nonfinite) == 3 * before
    for part in ("velocity", "accumulated"):
        a, b = (
            np.asarray(rows(getattr(state.opt_state.memory, part), count)["w"]).mean(0)
            for state, count in ((old, before), (new, after))
        )
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    shapes = jax.eval_shape(lambda: trained(exchanging, 1, 0))
    assert jax.tree.structure(rows(new.opt_state.ledger, after)) == jax.tree.structure(
        shapes.opt_state.ledger
    )
    assert isinstance(new.opt_state.ledger, Ledger)


def test_to_more_workers_each_row_is_an_old_one_to_the_bit():
    old = trained(exchanging, 2)
    new = resized(old, 2, 4)
    expected = np.repeat(np.asarray(old.opt_state.memory.residual["w"]), 2, axis=0)
    np.testing.assert_array_equal(new.opt_state.memory.residual["w"], expected)


def test_one_workers_nan_stays_with_its_heir():
    old = trained(walking, 4)
    params = old.variables["params"]["w"].at[3, 0].set(jnp.nan)
    new = resized(old._replace(variables={"params": {"w": params}}), 4, 2)
    found = np.isfinite(new.variables["params"]["w"])
    assert found[0].all() and not found[1, 0] and found[1, 1:].all()


def state_of(opt_state, **variables):
    variables = {"params": np.ones((2, 3), np.float32)} | variables
    return TrainState(np.int32(0), variables, opt_state, jax.random.key(0))


def test_statistics_of_batches_and_memories_of_rules_are_dealt_too():
    stats = np.array([[1.0, 2.0], [3.0, 4.0]], ml_dtypes.bfloat16)
    new = resized(state_of((), batch_stats=stats, memory={"k": stats}), 2, 1)
    for leaf in (new.variables["batch_stats"], new.variables["memory"]["k"]):
        assert leaf.tolist() == [2.0, 3.0] and leaf.dtype == stats.dtype


@pytest.mark.parametrize(
    ("state", "path"),
    [
        (state_of((), params=np.float32([[1], [2]])), "variables/params"),
        (state_of({"moment": np.float32([[1], [2]])}), "opt_state/moment"),
        (state_of({"mask": np.array([[True], [False]])}), "opt_state/mask"),
        (state_of((), batch_stats=np.int32([1, 2])), "variables/batch_stats"),
    ],
)
def test_what_nobody_has_spoken_for_is_refused_by_name(state, path):
    with pytest.raises(
        ValueError, match=f"^{path} differs between the 2 .*workers=2 again, or anew"
    ):
        resized(state, 2, 4)
    alike = jax.tree.map(lambda leaf: np.stack([leaf[0]] * 2), state[1:3])
    new = resized(state._replace(variables=alike[0], opt_state=alike[1]), 2, 4)
    assert all(leaf.shape[0] == 4 for leaf in jax.tree.leaves(new[1:3]))
