"""What every method that masks weights must do, whatever it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from sparsetrain import masks, selection
from sparsetrain.masks.partition import leaves_by_path
from tests.masks.registry import (
    DENSITY,
    METHODS,
    NAMES,
    UPDATES,
    check_zero,
    gradients,
    make,
    model,
    plain,
    quick_jit,
)


@functools.cache
def program(name):
    """The transformation's start and its compiled update, which most tests of a method share."""
    tx = make(name)
    return quick_jit(tx.init)(model()), quick_jit(tx.update)


def walk(name, params, state, first=0, grads=gradients):
    """Yields parameters and state after every update that is left."""
    for step in range(first, UPDATES):
        moves, state = program(name)[1](grads(step), state, params, value=jnp.float32(1.0))
        params = optax.apply_updates(params, moves)
        yield params, state


@functools.cache
def run(name):
    """Parameters and states of the whole schedule, the start included."""
    state = program(name)[0]
    params = masks.apply(model(), state)
    return [(params, state), *walk(name, params, state)]


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def active(state):
    return {path: int(mask.sum()) for path, mask in masks.find(state).masks.items()}


def wanted(state, density=DENSITY):
    found = masks.find(state).masks
    return {path: selection.count(mask.size, density) for path, mask in found.items()}


def check_counts(name, states, density=DENSITY):
    sizes = {path: mask.size for path, mask in masks.find(states[0]).masks.items()}
    first, last = active(states[0]), active(states[-1])
    if METHODS[name].start == "sparse":
        assert first == wanted(states[0], density)
    if METHODS[name].end == "each":
        assert last == wanted(states[0], density)
        for state in states:
            counts = active(state)
            assert all(last[path] <= counts[path] <= sizes[path] for path in sizes)
    if METHODS[name].end == "total":
        assert sum(last.values()) == sum(first.values())


@pytest.mark.parametrize("name", NAMES)
def test_masked_weights_are_exactly_zero_after_every_update(name):
    for number, (params, state) in enumerate(run(name)):
        check_zero(params, state, number)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(params))
    assert np.isfinite(masks.find(state).mask_error) and 0 <= masks.find(state).mask_error <= 1


@pytest.mark.parametrize("name", NAMES)
def test_active_counts_are_exact(name):
    check_counts(name, [state for _, state in run(name)])


@pytest.mark.parametrize("name", NAMES)
def test_an_expression_gives_a_layer_its_own_density(name):
    tx = make(name, distribution={r"a/.*": 0.5})
    state = tx.init(model())
    if METHODS[name].start == "dense":
        params, update = model(), quick_jit(tx.update)
        for step in range(UPDATES):
            moves, state = update(gradients(step), state, params, value=jnp.float32(1.0))
            params = optax.apply_updates(params, moves)
    assert active(state) == {**wanted(state), "a/kernel": 12}
    with pytest.raises(ValueError, match=r"\['x'\] matched no leaf .* masked: a/kernel, b/kernel"):
        make(name, distribution={"x": 0.5}).init(model())


@pytest.mark.parametrize("name", NAMES)
def test_the_state_keeps_its_structure_and_the_update_compiles_once(name):
    # Made outside: who comes first runs and remembers it, which inside a trace he could not.
    made = run(name)[0]
    first = jax.eval_shape(lambda: made)
    for each in run(name):
        assert jax.tree.structure(each) == jax.tree.structure(first)
        for a, b in zip(jax.tree.leaves(each), jax.tree.leaves(first), strict=True):
            assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
    assert int(masks.find(each[1]).step) == UPDATES
    assert program(name)[1]._cache_size() == 1


@pytest.mark.parametrize("name", NAMES)
def test_leaves_that_are_not_masked_get_the_inner_update(name):
    inner = jax.jit(plain().update)
    for step, ((before, state), (params, after)) in enumerate(
        zip(run(name), run(name)[1:], strict=False)
    ):
        assert "a/bias" not in masks.find(after).masks
        held = masks.find(state).inner
        if step in METHODS[name].restarts:  # Forgotten where the next update begins.
            held = plain().init(before)
        held = METHODS[name].inner(held)
        moves, _ = inner(gradients(step), held, before, value=jnp.float32(1.0))
        expected = before["a"]["bias"] + moves["a"]["bias"]
        if step + 1 in METHODS[name].skips:
            expected = before["a"]["bias"]
        np.testing.assert_array_equal(params["a"]["bias"], expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_key_decides_and_donated_buffers_are_gone(name):
    """A second, separately made and compiled run; it differs in nothing but where it writes."""
    tx = make(name)
    update = quick_jit(tx.update, donate_argnums=(1, 2))
    state = quick_jit(tx.init)(model())
    params = masks.apply(model(), state)
    apply = jax.jit(optax.apply_updates)
    for step in range(UPDATES):
        # The parameters' buffers become those of the moves, so that a copy is what moves.
        given = jax.tree.map(jnp.copy, params)
        old = jax.tree.leaves((state, given))
        moves, state = update(gradients(step), state, given, value=jnp.float32(1.0))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old[:1]))
        params = apply(params, moves)
    assert_same((params, state), run(name)[-1])


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].drawn])
def test_another_key_gives_other_masks(name):
    first = masks.find(jax.jit(make(name, key=jax.random.key(8)).init)(model())).masks
    same = masks.find(program(name)[0]).masks
    assert any(np.any(first[path] != same[path]) for path in same)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_and_a_density_that_would_empty_every_layer(name):
    tx = make(name, density=1e-6)
    params = model(dtype=jnp.bfloat16)
    state = quick_jit(tx.init)(params)
    params, states = masks.apply(params, state), [state]
    update = quick_jit(tx.update)
    for step in range(UPDATES):
        moves, state = update(
            gradients(step, jnp.bfloat16), states[-1], params, value=jnp.float32(1.0)
        )
        params = optax.apply_updates(params, moves)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
        check_zero(params, state, step)
        states.append(state)
    assert update._cache_size() == 1
    check_counts(name, states, density=1e-6)
    assert sum(active(state).values()) >= 1
    if METHODS[name].end == "each":
        assert set(active(state).values()) == {1}


def uniform_model(value):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), model())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.5, np.nan, np.inf])
def test_weights_that_are_all_equal_do_not_upset_the_counts(name, value):
    """Ties go to the lower index, and NaN is one value like any other; no gradient breaks the tie."""
    state = program(name)[0]
    params = masks.apply(uniform_model(value), state)
    states = [state, *(s for _, s in walk(name, params, state, grads=lambda _: uniform_model(0.0)))]
    check_counts(name, states)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_stays_where_it_is(name, bad):
    """Live weights become what plain training makes of them; masked ones stay zero."""
    params, state = run(name)[-1]  # Masks do not change any more.
    for path, mask in masks.find(state).masks.items():
        layer = path.split("/")[0]
        everywhere = jnp.full_like(params[layer]["kernel"], bad)
        grads = {**gradients(0), layer: {**gradients(0)[layer], "kernel": everywhere}}
        moves, after = program(name)[1](grads, state, params, value=jnp.float32(1.0))
        new = optax.apply_updates(params, moves)
        np.testing.assert_array_equal(~np.isfinite(new[layer]["kernel"]), mask)
        check_zero(new, after)
        for other in ("a", "b", "c"):
            if other != layer:
                assert np.all(np.isfinite(new[other]["kernel"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_that_is_not_finite_counts_as_the_largest(name):
    """It stays through all prunings: what went wrong is not hidden."""
    start, first = run(name)[0]
    at = tuple(np.argwhere(np.asarray(masks.find(first).masks["a/kernel"]))[0])
    kernel = start["a"]["kernel"].at[at].set(jnp.nan)
    states = [first]
    for params, state in walk(name, {**start, "a": {**start["a"], "kernel": kernel}}, first):
        assert np.isnan(params["a"]["kernel"][at]) and masks.find(state).masks["a/kernel"][at]
        assert np.sum(np.isnan(params["a"]["kernel"])) == 1
        check_zero(params, state)
        states.append(state)
    check_counts(name, states)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_finite_where_masks_change(name):
    """Counts hold, and what is masked from then on is zero; later it would be too late to say so."""
    params, state = run(name)[3]
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), gradients(3))
    moves, after = program(name)[1](broken, state, params, value=jnp.float32(1.0))
    check_zero(optax.apply_updates(params, moves), after)
    if METHODS[name].end == "each":
        assert active(after) == active(run(name)[4][1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("after", [3, 4])  # Within a phase, and just where one has ended.
def test_a_checkpoint_goes_on_to_the_bit(name, after, tmp_path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", run(name)[after])
        checkpointer.wait_until_finished()
        abstract = jax.eval_shape(lambda: run(name)[after])
        params, state = checkpointer.restore(tmp_path / "run", abstract)
    again = list(walk(name, params, state, first=after))
    for found, expected in zip(again, run(name)[after + 1 :], strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_under_vmap_masks_change_seldom(name):
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), model())
    value = jnp.ones(2)
    predicates = {}
    for axis_name in ("workers", None):
        tx = make(name, axis_name=axis_name)
        state = jax.eval_shape(jax.vmap(tx.init, axis_name="workers"), stack)

        def update(g, s, p, v, tx=tx):
            return tx.update(g, s, p, value=v)

        program = jax.make_jaxpr(jax.vmap(update, axis_name="workers"))(stack, state, stack, value)
        loops = [each for each in program.eqns if each.primitive.name == "while"]
        changes = [
            each for each in loops if any(out.aval.dtype == jnp.uint8 for out in each.outvars)
        ]
        predicates[axis_name] = [each.outvars[0].aval.shape for each in changes]
    # With a predicate of each worker's own all would compute the change, and select.
    assert predicates == {"workers": [()], None: [(2,)]}


def test_needs_parameters():
    for name in NAMES:
        with pytest.raises(ValueError, match="call update"):
            make(name).update(gradients(0), program(name)[0])
    assert set(leaves_by_path(model())) == {"a/bias", "a/kernel", "b/kernel", "c/kernel"}
