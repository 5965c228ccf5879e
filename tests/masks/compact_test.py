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
def model(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    return {
        name: {
            "kernel": jax.random.normal(key, shape, dtype) / 3,
            "bias": jnp.full(shape[-1], 0.1, dtype),
            "nothing": None,
        }
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def loss(params, x):
    for name in NAMES:
        kernel = params[name]["kernel"]
        x = jnp.tanh(x @ kernel.reshape(x.shape[-1], -1))
        x = x.at[..., : kernel.shape[-1]].add(params[name]["bias"])
    return jnp.mean((x - 1) ** 2)


def batch(number):
    return jax.random.normal(jax.random.key(100 + number), (5, 6))


def wrapped(inner, density=DENSITY, **options):
    settings = {"steps_per_phase": STEPS, "phases": PHASES, "key": KEY}
    return masks.grow_and_prune(inner, density, PARTS, **(settings | options))


def start(tx, params=None):
    params = model() if params is None else params
    state = tx.init(params)
    return masks.apply(params, state), state


def masked_run(tx, updates, params=None, program=None):
    """Of a masked step that the wrapper's own tests hold to Algorithm 1."""
    params, state = start(tx, params)
    # Compiling it takes longest here, so that those who have it hand it over.
    program = masks.compact_step(loss, tx).at_boundary if program is None else program
    for number in range(updates):
        params, state = jax.tree.map(jnp.copy, (params, state))  # The program takes them over.
        params, state, value = program(params, state, batch(number))
        yield params, state, value


def compact_run(tx, updates, params=None, step=None):
    step = masks.compact_step(loss, tx) if step is None else step
    held = masks.compact(*jax.tree.map(jnp.copy, start(tx, params)))
    for number in range(updates):
        held, value = step(held, batch(number))
        yield held, value
        held = jax.tree.map(jnp.copy, held)


def compare(tx, updates, params=None, rtol=2e-5, every=False):
    """Runs both, compares and returns the last; of `every` update rather than the last alone."""
    step = masks.compact_step(loss, tx)
    pairs = zip(
        masked_run(tx, updates, params, step.at_boundary),
        compact_run(tx, updates, params, step),
        strict=True,
    )
    for number, ((params, state, value), (held, mine)) in enumerate(pairs, 1):
        np.testing.assert_allclose(value, mine, rtol=rtol)
        if every or number == updates:
            assert_same(held, params, state, rtol)
        yield number, held


def assert_same(held, params, state, rtol=2e-5):
    """Masks exactly; parameters, and the optimizer's state where weights live, up to rounding."""
    there, back = masks.expand(held)
    assert back.masks.keys() == state.masks.keys()
    for path, mask in state.masks.items():
        np.testing.assert_array_equal(back.masks[path], mask)
    small = masks.compact(params, state)
    for one, other in ((there, params), (held.state, small.state)):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        pairs = jax.tree_util.tree_leaves_with_path(one)
        for (path, leaf), wanted in zip(pairs, jax.tree.leaves(other), strict=True):
            assert leaf.dtype == wanted.dtype
            scale = max(1e-6, float(jnp.max(jnp.abs(wanted.astype(jnp.float32)))))
            np.testing.assert_allclose(
                *(np.asarray(each, np.float32) for each in (leaf, wanted)),
                rtol=rtol,
                atol=rtol * scale,
                err_msg=tree.join(path),
            )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_whole_cycle_is_that_of_the_masked_form(name):
    make = OPTIMIZERS[name]
    # Fine-tuning with a state of its own in one case, with the same one in others.
    later = optax.sgd(0.05, momentum=0.9) if name == "adam" else make(0.5)
    updates = PHASES * STEPS + 3
    for number, held in compare(wrapped(make(1.0), fine_tune=later), updates, every=True):
        dense = [n for n in NAMES if f"{n}/kernel" not in held.indices]
        assert dense == ([NAMES[number // STEPS]] if number < PHASES * STEPS else [])
    assert int(held.state.step) == updates


def decays(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


@pytest.mark.parametrize(
    "inner",
    [
        optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.01)),
        optax.lamb(0.01),  # Norms of a leaf do not see its zeros.
        optax.adam(optax.linear_schedule(0.0, 0.01, 3)),
        optax.adamw(0.01, weight_decay=0.1, mask=decays),
        optax.inject_hyperparams(optax.adam)(0.01),
    ],
)
def test_others_that_do_not_see_shapes_are_taken(inner):
    list(compare(masks.static(inner, DENSITY, key=KEY), 5))


@pytest.mark.parametrize("order", ["cyclic", "random"])
def test_two_rounds_compile_one_program_a_partition_and_one_for_boundaries(order):
    tx = wrapped(optax.adam(0.01), phases=2 * PHASES, order=order)
    step = masks.compact_step(loss, tx)
    runs = [list(compact_run(tx, 2 * PHASES * STEPS - 1, step=step))]
    assert step.between._cache_size() <= PHASES
    assert step.at_boundary._cache_size() == 1
    # Another run knows where it is, although this object was elsewhere a moment ago.
    runs.append(list(compact_run(tx, 2 * PHASES * STEPS + 2, step=step)))
    assert step.between._cache_size() <= PHASES + 1  # and fine-tuning
    assert step.at_boundary._cache_size() == 1
    for (held, value), (again, other) in zip(*runs, strict=False):
        assert value == other
        assert held.indices.keys() == again.indices.keys()


def test_bytes_are_those_of_the_formula():
    params = {name: {"kernel": jnp.ones((64, 64))} for name in NAMES}
    tx = masks.grow_and_prune(optax.adam(0.1), 0.1, PARTS, steps_per_phase=2, phases=4, key=KEY)
    params, state = start(tx, params)
    dense = 3 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))

    def total(p):
        return sum(jnp.sum(leaf["kernel"] ** 2) for leaf in p.values())

    step, held = masks.compact_step(total, tx), masks.compact(params, state)
    shares = []
    for _ in range(8):
        held, _ = step(held)
        shares.append(sum(leaf.nbytes for leaf in jax.tree.leaves(held)) / dense)
    assert max(shares) <= 0.25 + 0.1334 * 0.75 + 1e-3 <= 0.37
    assert shares[-1] <= 0.1334 + 1e-3  # All sparse, as fine-tuning has it.


def test_live_weights_and_moments_come_back_to_the_bit():
    tx = wrapped(optax.adam(0.1))
    *_, (params, state, _) = masked_run(tx, 5)
    back, again = masks.expand(masks.compact(params, state))
    assert jax.tree.structure((back, again)) == jax.tree.structure((params, state))
    pairs = zip(jax.tree.leaves((back, again)), jax.tree.leaves((params, state)), strict=True)
    for one, other in pairs:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_gradients_are_gathered_and_flow_to_values_alone():
    tx = wrapped(optax.adam(0.1))
    *_, (params, state, _) = masked_run(tx, 2)
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
    params = {"a": jnp.eye(5), "b": jnp.eye(4)}
    tx = masks.static(make(), 0.5, scores=params)
    held = masks.compact(params, tx.init(params))
    with pytest.raises(ValueError, match=named):
        masks.compact_update(tx, held.params, held)


def test_a_fine_tuning_that_sees_shapes_is_refused_at_once():
    with pytest.raises(ValueError, match="FactoredState"):
        next(compact_run(wrapped(optax.sgd(0.1), fine_tune=optax.adafactor(0.1)), 1))


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


def test_half_precision():
    list(compare(wrapped(optax.adam(0.01)), 5, model(jnp.bfloat16), rtol=0.03))


def test_a_model_without_sparse_leaves():
    for _, held in compare(wrapped(optax.sgd(0.1), density=1.0), 5):
        assert not held.indices


@pytest.mark.parametrize(
    "tx",
    [
        masks.gradual(optax.adam(0.01), 0.2, begin=2, end=3),
        masks.rigl(optax.adam(0.01), 0.2, every=3, until=9, key=KEY),
    ],
)
def test_other_wrappers_too(tx):
    step = masks.compact_step(loss, tx)
    *_, (params, state, _) = masked_run(tx, 8, program=step.at_boundary)
    *_, (held, _) = compact_run(tx, 8, step=step)
    # Their optimizers go on, also for weights that were dropped: those memories are not compared.
    there, back = masks.expand(held)
    for path, mask in state.masks.items():
        np.testing.assert_array_equal(back.masks[path], mask)
    for one, other in zip(jax.tree.leaves(there), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_loop_of_ones_own_and_what_a_loss_returns_beside():
    tx = wrapped(optax.sgd(0.1))
    step = masks.compact_step(lambda p, x: (loss(p, x), {"inputs": x.sum()}), tx, has_aux=True)
    held = masks.compact(*jax.tree.map(jnp.copy, start(tx)))
    for number in range(2):
        held, (_, aux) = step(held, batch(number))
    np.testing.assert_allclose(aux["inputs"], batch(1).sum(), rtol=1e-5)
    grads = jax.grad(lambda values: loss(masks.expand_params(values, held), batch(2)))(held.params)
    own = jax.jit(lambda grads, held: masks.compact_update(tx, grads, held, value=0.0))(grads, held)
    wanted = held
    assert int(own.state.step) == 3
    for one, g, other in zip(
        *map(jax.tree.leaves, (wanted.params, grads, own.params)), strict=True
    ):
        np.testing.assert_allclose(one - 0.1 * g, other, rtol=1e-5, atol=1e-6)
