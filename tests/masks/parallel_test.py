import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks, selection

SHAPES = {"a": (6, 8), "b": (8, 10), "c": (10, 4)}
PARTS = masks.partitions({"one": r"a/.*", "two": r"b/.*", "three": r"c/.*"})
STEPS, ROUNDS, DENSITY = 3, 3, 0.25


def model(seed=0):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {
        name: {"kernel": jax.random.normal(key, shape), "bias": jnp.ones(shape[-1])}
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def gradients(step, worker):
    return jax.tree.map(lambda leaf: 0.3 * leaf, model(100 + 10 * step + worker))


def keep(weights):
    flat = np.abs(weights).ravel()
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[: selection.count(flat.size, DENSITY)]] = True
    return mask.reshape(weights.shape)


def wrapped(inner, parts=PARTS, **options):
    settings = {"steps_per_phase": STEPS, "phases": ROUNDS, "key": jax.random.key(2)}
    return masks.grow_and_prune(
        inner, DENSITY, parts, order="parallel", axis_name="workers", **(settings | options)
    )


def stacked(tree, workers):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * workers), tree)


def run(tx, parts, workers, rounds=ROUNDS):
    init = jax.vmap(tx.init, axis_name="workers")
    params = stacked(model(), workers)
    state = init(params)
    params = jax.vmap(masks.apply)(params, state)
    update = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    together = jax.jit(
        jax.vmap(lambda p, s: masks.combine(p, s, parts, "workers"), axis_name="workers")
    )
    for step in range(rounds * STEPS):
        each = [gradients(step, worker) for worker in range(workers)]
        grads = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        moves, state = update(grads, state, params)
        params = optax.apply_updates(params, moves)
        if (step + 1) % STEPS == 0:
            params, state = together(params, state)
        yield params, state
    assert update._cache_size() == 1


def test_rounds_are_those_of_algorithm_2():
    tx = wrapped(optax.sgd(0.1))
    start = jax.vmap(tx.init, axis_name="workers")(stacked(model(), 3))
    first = {name: np.asarray(start.masks[f"{name}/kernel"][0]) for name in SHAPES}
    w = {n: np.where(first[n], model()[n]["kernel"], 0).astype(np.float32) for n in SHAPES}
    bias = {n: np.asarray(model()[n]["bias"]) for n in SHAPES}
    steps = run(tx, PARTS, 3)
    for number in range(ROUNDS):
        w_new, bias_new, m_new = {}, {}, {}
        for worker, mine in enumerate(SHAPES):
            own = w[mine].copy()
            own_bias = bias[mine].copy()
            for place in range(STEPS):
                g = gradients(number * STEPS + place, worker)[mine]
                own = own + np.float32(-0.1) * np.asarray(g["kernel"])  # Dense: no mask at all.
                own_bias = own_bias + np.float32(-0.1) * np.asarray(g["bias"])
            m_new[mine] = keep(own)
            w_new[mine], bias_new[mine] = np.where(m_new[mine], own, 0), own_bias
        w, bias = w_new, bias_new
        for _ in range(STEPS):
            params, state = next(steps)
        for name in SHAPES:
            for worker in range(3):
                np.testing.assert_allclose(
                    params[name]["kernel"][worker], w[name], rtol=1e-5, atol=1e-6
                )
                np.testing.assert_allclose(params[name]["bias"][worker], bias[name], rtol=1e-5)
                np.testing.assert_array_equal(state.masks[f"{name}/kernel"][worker], m_new[name])
        assert np.ptp(np.asarray(params["a"]["kernel"]), axis=0).max() == 0


def test_within_a_round_each_worker_has_one_dense_partition():
    for number, (params, state) in enumerate(run(wrapped(optax.adam(0.01)), PARTS, 3), 1):
        for i, name in enumerate(SHAPES):
            mask = np.asarray(state.masks[f"{name}/kernel"])
            dense = mask.all((1, 2)).tolist()
            expected = [False] * 3
            if number % STEPS:
                expected[i] = True
            assert dense == expected
            assert not np.any(np.asarray(params[name]["kernel"])[~mask])


def test_moments_go_with_their_partition_in_optimizers_of_parts_too():
    # One for kernels and one for biases: each sees gaps where the other has leaves.
    labels = {name: {"kernel": "x", "bias": "y"} for name in SHAPES}
    inner = optax.partition({"x": optax.adam(0.01), "y": optax.sgd(0.1, momentum=0.5)}, labels)
    *_, (_, state) = run(wrapped(inner, restart=False), PARTS, 3, rounds=1)
    moments = [leaf for leaf in jax.tree.leaves(state.inner) if leaf.ndim > 1]
    assert len(moments) == 3 * 3
    for leaf in moments:
        np.testing.assert_array_equal(leaf, jnp.broadcast_to(leaf[:1], leaf.shape))
        assert np.any(leaf)


def test_one_worker_is_cyclic_training_of_one_partition():
    parts = masks.partitions({"all": r".*"})
    alone = list(run(wrapped(optax.adam(0.01), parts), parts, 1))
    tx = masks.grow_and_prune(
        optax.adam(0.01),
        DENSITY,
        parts,
        steps_per_phase=STEPS,
        phases=ROUNDS,
        key=jax.random.key(2),
    )
    params = model()
    state = tx.init(params)
    params = masks.apply(params, state)
    update = jax.jit(tx.update)
    for step in range(ROUNDS * STEPS):
        moves, state = update(gradients(step, 0), state, params)
        params = optax.apply_updates(params, moves)
        if (step + 1) % STEPS == 0 and step + 1 < ROUNDS * STEPS:
            continue  # One prunes and the other has grown again already.
        for name in SHAPES:
            np.testing.assert_array_equal(
                alone[step][1].masks[f"{name}/kernel"][0], state.masks[f"{name}/kernel"]
            )
    last = alone[-1][0]
    for name in SHAPES:
        np.testing.assert_allclose(
            last[name]["kernel"][0], params[name]["kernel"], rtol=1e-5, atol=1e-6
        )


def test_running_statistics_go_with_their_partition():
    variables = {
        "params": {
            "a": {"w": jnp.arange(3.0)},
            "b": {"w": jnp.arange(3.0)},
            "c": {"w": jnp.arange(3.0)},
        },
        "batch_stats": {"b": {"mean": jnp.array([5, 6, 7])}},
    }
    state = masks.MaskState(jnp.zeros(3), {}, (), (), jnp.zeros(3))
    found, _ = jax.vmap(lambda v, s: masks.combine(v, s, PARTS, "workers"), axis_name="workers")(
        variables, state
    )
    assert found["batch_stats"]["b"]["mean"].tolist() == [6, 6, 6]
    assert found["params"]["c"]["w"].tolist() == [2.0, 2.0, 2.0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="name the axis"):
        masks.grow_and_prune(
            optax.sgd(0.1),
            0.1,
            PARTS,
            steps_per_phase=1,
            phases=1,
            key=jax.random.key(0),
            order="parallel",
        )
    state = masks.MaskState(jnp.zeros(2), {}, (), (), jnp.zeros(2))
    with pytest.raises(ValueError, match="3 for 2 workers"):
        jax.vmap(lambda v, s: masks.combine(v, s, PARTS, "w"), axis_name="w")(
            {"a": jnp.zeros(2)}, state
        )
    two = masks.partitions({"x": r"a.*", "y": r"a/b"})
    with pytest.raises(ValueError, match="every leaf belongs to one"):
        jax.vmap(lambda v, s: masks.combine(v, s, two, "w"), axis_name="w")(
            {"a": {"b": jnp.zeros(2)}}, state
        )
