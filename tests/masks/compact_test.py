"""Compact storage against the masked form, which has tests of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from sparsetrain import masks, tree

NAMES = ("a", "b", "c", "d")
SHAPES = {"a": (6, 10), "b": (10, 10), "c": (10, 2, 4), "d": (8, 4)}
PARTS = masks.partitions({name: rf"{name}/.*" for name in NAMES})
STEPS, PHASES, DENSITY = 3, 4, 0.2
KEY = jax.random.key(5)
OPTIMIZERS = {
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": lambda rate: optax.adam(0.1 * rate),
    "adamw": lambda rate: optax.adamw(0.1 * rate, weight_decay=0.1),
    "lion": lambda rate: optax.lion(0.1 * rate, weight_decay=0.1),
    "rmsprop": lambda rate: optax.rmsprop(0.1 * rate, momentum=0.9, initial_scale=0.5),
}


@functools.cache
def model():
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    params = {
        name: {"kernel": jax.random.normal(key, shape) / 3}
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    params["d"] |= {"bias": jnp.full(4, 0.1, jnp.float32), "nothing": None}
    return params


def loss(params, x):
    for name in NAMES:
        x = jnp.tanh(x @ params[name]["kernel"].reshape(x.shape[-1], -1))
    x = x + params["d"]["bias"][None]
    return jnp.mean((x - 1) ** 2)


def batch(number):
    return jax.random.normal(jax.random.key(100 + number), (5, 6))


def small_model(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(1))
    return {
        name: jax.random.normal(key, (4, 5), dtype) for name, key in zip("ab", keys, strict=True)
    }


def small_loss(params):
    return jnp.mean((params["a"] @ params["b"].T - 1) ** 2)


def wrapped(inner, density=DENSITY, **options):
    settings = {"steps_per_phase": STEPS, "phases": PHASES, "key": KEY}
    return masks.grow_and_prune(inner, density, PARTS, **(settings | options))


def start(tx, params):
    state = tx.init(params)
    return masks.apply(params, state), state


def masked_run(tx, updates, program):
    """Of a masked step; the wrapper's own tests hold it to Algorithm 1."""
    params, state = start(tx, model())
    for number in range(updates):
        params, state = jax.tree.map(jnp.copy, (params, state))  # The program takes them over.
        params, state, value = program(params, state, batch(number))
        yield params, state, value


def compact_run(tx, updates, step):
    held = masks.compact(*jax.tree.map(jnp.copy, start(tx, model())))
    for number in range(updates):
        held, value = step(held, batch(number))
        yield held, value
        held = jax.tree.map(jnp.copy, held)


def assert_same(held, params, state, rtol=2e-5, forgets=False):
    """Masks exactly; parameters, and the optimizer's state where weights live, up to rounding."""
    there, back = masks.expand(held)
    assert back.masks.keys() == state.masks.keys()
    for path, mask in state.masks.items():
        np.testing.assert_array_equal(back.masks[path], mask)
    small = masks.compact(params, state)
    pairs = [(there, params)]
    if not forgets:  # At the end of a phase: the next update begins with a fresh state.
        pairs.append((held.state, small.state))
    for one, other in pairs:
        assert jax.tree.structure(one) == jax.tree.structure(other)
        leaves = jax.tree_util.tree_leaves_with_path(one)
        for (path, leaf), wanted in zip(leaves, jax.tree.leaves(other), strict=True):
            assert leaf.dtype == wanted.dtype
            scale = max(1e-6, float(jnp.max(jnp.abs(wanted.astype(jnp.float32)))))
            np.testing.assert_allclose(
                *(np.asarray(each, np.float32) for each in (leaf, wanted)),
                rtol=rtol,
                atol=rtol * scale,
                err_msg=tree.join(path),
            )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_whole_cycles_are_those_of_the_masked_form(name):
    make = OPTIMIZERS[name]
    # Fine-tuning with a state of its own in one case, with the same one in others.
    later = optax.sgd(0.05, momentum=0.9) if name == "adam" else make(0.5)
    phases = 2 * PHASES if name == "sgd" else PHASES
    tx = wrapped(make(1.0), fine_tune=later, phases=phases)
    step, updates = masks.compact_step(loss, tx), phases * STEPS + 3
    pairs = zip(
        masked_run(tx, updates, step.at_boundary), compact_run(tx, updates, step), strict=True
    )
    for number, ((params, state, value), (held, mine)) in enumerate(pairs, 1):
        np.testing.assert_allclose(value, mine, rtol=1e-5)
        dense = [n for n in NAMES if f"{n}/kernel" not in held.indices]
        assert dense == ([NAMES[number // STEPS % PHASES]] if number < phases * STEPS else [])
        if number % STEPS != 1:  # All but the first of a phase, to save time.
            ends = number % STEPS == 0 and number <= phases * STEPS
            assert_same(held, params, state, forgets=ends)
    assert int(held.state.step) == updates
    # One program a partition, one for fine-tuning, and the one in masked form, in two rounds too.
    assert step.between._cache_size() == PHASES + 1
    assert step.at_boundary._cache_size() == 1


def decays(params):
    return {name: name == "a" for name in params}


TAKEN = {
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.01)),
    "lamb": optax.lamb(0.01),  # Norms of a leaf do not see its zeros.
    "warming up": optax.adam(optax.linear_schedule(0.0, 0.01, 3)),
    "decay by name": optax.adamw(0.01, weight_decay=0.1, mask=decays),
    "injected": optax.inject_hyperparams(optax.adam)(0.01),
    "told the loss": optax.chain(optax.adam(0.01), optax.contrib.reduce_on_plateau()),
}


@pytest.mark.parametrize(
    ("name", "density", "dtype"),
    [
        *((name, 0.4, jnp.float32) for name in TAKEN),
        ("clipped", 0.4, jnp.bfloat16),
        ("clipped", 1.0, jnp.float32),  # nothing to compact
    ],
)
def test_others_that_do_not_see_shapes_are_taken(name, density, dtype):
    params = small_model(dtype)
    tx = masks.static(TAKEN[name], density, scores=params)
    state = tx.init(params)
    params = masks.apply(params, state)
    held = masks.compact(params, state)
    assert held.indices.keys() == (set() if density == 1.0 else {"a", "b"})
    for _ in range(3):
        grads = jax.grad(small_loss)(params)
        gathered = jax.grad(lambda v, h: small_loss(masks.expand_params(v, h)))(held.params, held)
        moves, state = tx.update(grads, state, params, value=1.0)
        params = optax.apply_updates(params, moves)
        held = masks.compact_update(tx, gathered, held, value=1.0)
    assert_same(held, params, state, 1e-5 if dtype == jnp.float32 else 0.02)


def in_a_phase(tx, params):
    """Parameters and state of a phase in which the first leaf is dense, with moments."""
    params, state = start(tx, params)
    path = next(iter(state.masks))
    state = state._replace(masks=state.masks | {path: jnp.ones_like(state.masks[path])})
    return params, state._replace(inner=tree.map_like(lambda _, node: params, state.inner, params))


def test_bytes_are_those_of_the_formula():
    params = {name: {"kernel": jnp.ones((64, 64))} for name in NAMES}
    settings = {"steps_per_phase": 2, "phases": 4, "key": KEY}
    tx = masks.grow_and_prune(optax.adam(0.1), 0.1, PARTS, **settings)
    params, state = start(tx, params)
    dense = 3 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    sparse, phase = (
        sum(leaf.nbytes for leaf in jax.tree.leaves(masks.compact(*each))) / dense
        for each in ((params, state), in_a_phase(tx, params))
    )
    assert sparse <= 0.1334 + 1e-3
    assert phase <= 0.25 + 0.1334 * 0.75 + 1e-3 <= 0.37


def test_live_weights_and_moments_come_back_to_the_bit():
    params, state = in_a_phase(wrapped(optax.adam(0.1)), model())
    back, again = masks.expand(masks.compact(params, state))
    assert jax.tree.structure((back, again)) == jax.tree.structure((params, state))
    pairs = zip(jax.tree.leaves((back, again)), jax.tree.leaves((params, state)), strict=True)
    for one, other in pairs:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_gradients_are_gathered_and_flow_to_values_alone():
    params, state = in_a_phase(wrapped(optax.adam(0.1)), model())
    held = masks.compact(params, state)
    assert held.indices.keys() == {"b/kernel", "c/kernel", "d/kernel"}

    def of_values(values):
        return loss(masks.expand_params(values, held), batch(0))

    small, whole = jax.jit(jax.grad(of_values))(held.params), jax.grad(loss)(params, batch(0))
    assert jax.tree.map(jnp.shape, small) == jax.tree.map(jnp.shape, held.params)
    for path, found in held.indices.items():
        name = path.split("/")[0]
        assert np.all(np.diff(found) > 0)
        wanted = whole[name]["kernel"].reshape(-1)[found]
        np.testing.assert_allclose(small[name]["kernel"], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: optax.adafactor(0.1), "FactoredState"),
        (lambda: optax.adafactor(0.1, min_dim_size_to_factor=2), "FactoredState"),
        (lambda: optax.contrib.muon(0.1), "MuonState"),
        (lambda: optax.sm3(0.1), "ScaleBySM3State"),
        (lambda: optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)), "AddNoiseState"),
        (lambda: optax.chain(optax.clip_by_block_rms(0.1), optax.sgd(0.1)), "without state"),
        (lambda: optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(0.1)), "without state"),
        (lambda: optax.chain(optax.centralize(), optax.sgd(0.1)), "without state"),
        (
            lambda: optax.adamw(
                0.1, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda leaf: leaf.ndim > 1, p)
            ),
            "ScaleByAdamState",
        ),
    ],
)
def test_optimizers_that_see_shapes_are_refused_by_name(make, named):
    params = small_model()
    tx = masks.static(make(), 0.5, scores=params)
    held = masks.compact(*start(tx, params))
    with pytest.raises(ValueError, match=named):
        masks.compact_update(tx, held.params, held)


def test_a_fine_tuning_that_sees_shapes_is_refused_at_once():
    tx = wrapped(optax.sgd(0.1), fine_tune=optax.adafactor(0.1))
    with pytest.raises(ValueError, match="FactoredState"):
        next(compact_run(tx, 1, masks.compact_step(loss, tx)))


def test_what_would_lose_memories_is_refused():
    for options in ({"mask_gradients": False}, {"restart": False}):
        with pytest.raises(ValueError, match=next(iter(options))):
            masks.compact_step(loss, wrapped(optax.sgd(0.1), **options))
    with pytest.raises(ValueError, match="parallel"):
        masks.compact_step(loss, wrapped(optax.sgd(0.1), order="parallel", axis_name="w"))
    chained = optax.chain(optax.clip(1.0), wrapped(optax.sgd(0.1)))
    with pytest.raises(TypeError, match="inside"):
        masks.compact_step(loss, chained)
    with pytest.raises(ValueError, match="inside"):
        masks.compact(model(), chained.init(model()))
    with pytest.raises(ValueError, match="apply"):
        masks.compact(model(), wrapped(optax.sgd(0.1)).init(model()))


@pytest.mark.parametrize(
    "tx",
    [
        masks.gradual(optax.adam(0.01), 0.2, begin=2, end=3),
        masks.rigl(optax.adam(0.01), 0.2, every=3, until=9, key=KEY),
    ],
)
def test_other_wrappers_too(tx):
    step = masks.compact_step(small_loss, tx)
    params, state = start(tx, small_model())
    held = masks.compact(*jax.tree.map(jnp.copy, (params, state)))
    for _ in range(5):
        params, state, _ = step.at_boundary(params, state)
        held, _ = step(held)
    # Their optimizers go on, also for weights that were dropped: those memories are not compared.
    there, back = masks.expand(held)
    for path, mask in state.masks.items():
        np.testing.assert_array_equal(back.masks[path], mask)
    for one, other in zip(jax.tree.leaves(there), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_goes_on_from_where_it_is_with_what_a_loss_returns_beside():
    def with_aux(params, scale):
        return scale * small_loss(params), {"scale": scale}

    params = small_model()
    tx = masks.static(optax.adam(0.01), 0.4, scores=params)
    first = masks.compact(*start(tx, params))
    step = masks.compact_step(with_aux, tx, has_aux=True)
    states = []
    for _ in range(2):  # The second run starts over, although the step was elsewhere a moment ago.
        held = jax.tree.map(jnp.copy, first)
        for number in range(3):
            held, (_, aux) = step(held, jnp.float32(number))
            assert aux["scale"] == number
        states.append(held)
    assert int(held.state.step) == 3
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
