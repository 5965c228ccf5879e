"""Row-sparse optimizers against their dense twins fed with the same gradient as zeros and rows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain.backward import row_sparse
from sparsetrain.backward.row_sparse import RowSparse

OUTPUTS, INPUTS, KEPT = 7, 3, 2


def gradient(step: int, axis: int) -> RowSparse:
    rng = np.random.default_rng(step)
    columns = rng.choice(OUTPUTS, KEPT, replace=False)
    if step == 2:
        columns[1] = OUTPUTS + 3  # padding
    values = rng.standard_normal((KEPT, INPUTS))
    if step == 2:
        values[1] = 0.0
    values = values if axis == 0 else values.T
    return RowSparse(jnp.asarray(values, jnp.float32), jnp.asarray(columns, jnp.int32), None, axis)


def shape(axis: int) -> tuple[int, int]:
    return (OUTPUTS, INPUTS) if axis == 0 else (INPUTS, OUTPUTS)


def sparse_run(tx, axis: int, steps: int):
    params = {"w": jnp.ones(shape(axis)), "b": jnp.ones(2)}
    state = tx.init({**params, "w": RowSparse(params["w"], None, None, axis)})
    for step in range(steps):
        grads = {"w": gradient(step, axis), "b": jnp.full(2, 0.5 + step)}
        updates, state = tx.update(grads, state)
        params = optax.apply_updates(params, updates)
    return params, state


def dense_gradient(step: int, axis: int) -> jax.Array:
    return gradient(step, axis).to_dense(shape(axis))


@pytest.mark.parametrize("axis", [0, 1])
def test_sgd_is_exactly_dense_sgd(axis: int) -> None:
    params, _ = sparse_run(row_sparse.sgd(0.1), axis, 5)
    expected = jnp.ones(shape(axis))
    for step in range(5):
        expected = expected - 0.1 * dense_gradient(step, axis)
    np.testing.assert_allclose(params["w"], expected, rtol=1e-6)


def test_dense_leaves_follow_optax() -> None:
    for ours, theirs in (
        (row_sparse.adam(0.1), optax.adam(0.1)),
        (row_sparse.sgd(0.1), optax.sgd(0.1)),
        (row_sparse.sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (
            row_sparse.sgd(0.1, momentum=0.9, nesterov=True),
            optax.sgd(0.1, momentum=0.9, nesterov=True),
        ),
        (
            row_sparse.adam(optax.linear_schedule(0.1, 0.0, 4), b1=0.5, eps=1e-3),
            optax.adam(optax.linear_schedule(0.1, 0.0, 4), b1=0.5, eps=1e-3),
        ),
    ):
        params, _ = sparse_run(ours, 0, 5)
        expected = {"b": jnp.ones(2)}
        state = theirs.init(expected)
        for step in range(5):
            updates, state = theirs.update({"b": jnp.full(2, 0.5 + step)}, state)
            expected = optax.apply_updates(expected, updates)
        np.testing.assert_allclose(params["b"], expected["b"], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_adam_moments_are_those_of_dense_adam_when_a_row_is_touched(axis: int) -> None:
    steps = 6
    _, state = sparse_run(row_sparse.adam(0.1), axis, steps)
    dense = optax.scale_by_adam()
    dense_state = dense.init(jnp.ones(shape(axis)))
    touched = np.zeros(OUTPUTS, int)
    for step in range(steps):
        _, dense_state = dense.update(dense_gradient(step, axis), dense_state)
        columns = np.asarray(gradient(step, axis).columns)
        touched[columns[columns < OUTPUTS]] = step + 1
        now = touched == step + 1
        for ours, theirs in ((state.mu, dense_state.mu), (state.nu, dense_state.nu)):
            if step == steps - 1:
                got, expected = (np.moveaxis(np.asarray(a), axis, 0) for a in (ours["w"], theirs))
                np.testing.assert_allclose(got[now], expected[now], rtol=1e-5)
    np.testing.assert_array_equal(state.last["w"], touched)


def test_untouched_rows_stay_and_all_rows_touched_is_dense_adam() -> None:
    params, _ = sparse_run(row_sparse.adam(0.1), 0, 1)
    untouched = np.setdiff1d(np.arange(OUTPUTS), gradient(0, 0).columns)
    np.testing.assert_array_equal(params["w"][untouched], 1.0)

    ours, theirs = row_sparse.adam(0.1), optax.adam(0.1)
    w = v = jnp.ones((4, 3))
    ours_state = ours.init({"w": RowSparse(w)})
    theirs_state = theirs.init({"w": v})
    for step in range(4):
        values = jax.random.normal(jax.random.key(step), (4, 3))
        order = jax.random.permutation(jax.random.key(9 + step), 4).astype(jnp.int32)
        update, ours_state = ours.update({"w": RowSparse(values[order], order)}, ours_state)
        w = w + update["w"]
        update, theirs_state = theirs.update({"w": values}, theirs_state)
        v = v + update["w"]
    np.testing.assert_allclose(w, v, rtol=1e-5)


def test_uncorrected_adam_takes_one_step_of_decay() -> None:
    tx = row_sparse.adam(0.1, b1=0.5, correct_decay=False)
    state = tx.init({"w": RowSparse(jnp.ones((3, 1)))})

    def touch(state, row):
        return tx.update({"w": RowSparse(jnp.ones((1, 1)), jnp.array([row]))}, state)[1]

    state = touch(touch(touch(state, 0), 1), 0)  # row 0 rests for one step
    np.testing.assert_allclose(state.mu["w"][0, 0], 0.5 * 0.5 + 0.5)
    tx = row_sparse.adam(0.1, b1=0.5)
    state = tx.init({"w": RowSparse(jnp.ones((3, 1)))})
    state = touch(touch(touch(state, 0), 1), 0)
    np.testing.assert_allclose(state.mu["w"][0, 0], 0.25 * 0.5 + 0.5)


def test_momentum_decays_over_the_steps_in_between() -> None:
    tx = row_sparse.sgd(1.0, momentum=0.5)
    state = tx.init({"w": RowSparse(jnp.ones((3, 1)))})
    for row in (0, 1, 2, 0):
        update, state = tx.update({"w": RowSparse(jnp.ones((1, 1)), jnp.array([row]))}, state)
    np.testing.assert_allclose(update["w"].values, [[-(1 + 0.5**3)]])


def test_clip_counts_all_entries() -> None:
    tx = row_sparse.clip_by_global_norm(1.0)
    grads = {"w": RowSparse(jnp.full((1, 2), 3.0), jnp.array([5])), "b": jnp.full((2,), 3.0)}
    clipped, _ = tx.update(grads, tx.init(None))
    np.testing.assert_allclose(clipped["w"].values, 0.5, rtol=1e-6)  # norm 6
    np.testing.assert_allclose(clipped["b"], 0.5, rtol=1e-6)
    assert clipped["w"].columns.tolist() == [5]
    small = jax.tree.map(lambda a: a / 100 if a.dtype == jnp.float32 else a, grads)
    jax.tree.map(np.testing.assert_array_equal, tx.update(small, tx.init(None))[0], small)
    with pytest.raises(ValueError, match="max_norm=0: must be positive"):
        row_sparse.clip_by_global_norm(0)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="give a momentum"):
        row_sparse.sgd(0.1, nesterov=True)
