import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks, selection

SHAPES = {"a": (6, 8), "b": (8, 10), "c": (10, 12), "d": (12, 4)}
PARTS = masks.partitions({"one": r"a/.*", "two": r"[bc]/.*", "three": r"d/.*"})
STEPS, PHASES, DENSITY = 3, 7, 0.25


def model(seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {
        name: {"kernel": jax.random.normal(key, shape, dtype), "bias": jnp.ones(shape[-1], dtype)}
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def gradients(step):
    return jax.tree.map(lambda leaf: 0.3 * leaf, model(100 + step))


def keep(weights, density):
    """Mask of the k largest, by a sort."""
    flat = np.abs(np.asarray(weights)).ravel()
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[: selection.count(flat.size, density)]] = True
    return mask.reshape(weights.shape)


def walk(params, first):
    """Algorithm 1 with plain SGD, in NumPy, as it is written; yields weights and masks of every update."""
    w = {name: np.where(first[name], params[name]["kernel"], 0) for name in SHAPES}
    m = dict(first)
    owner = {"a": 0, "b": 1, "c": 1, "d": 2}

    def prune(part):
        for name in (n for n in SHAPES if owner[n] == part):
            m[name] = keep(w[name], DENSITY)
            w[name] = np.where(m[name], w[name], 0).astype(np.float32)

    step = 0
    for phase in range(PHASES):
        if phase:
            prune((phase - 1) % 3)
        for name in (n for n in SHAPES if owner[n] == phase % 3):
            m[name] = np.ones_like(m[name])
        for place in range(STEPS):
            g = gradients(step)
            for name in SHAPES:
                move = np.float32(-0.1) * np.asarray(g[name]["kernel"])
                w[name] = np.where(m[name], w[name] + move, 0).astype(np.float32)
            step += 1
            if place == STEPS - 1 and phase == PHASES - 1:
                prune((PHASES - 1) % 3)
            if place < STEPS - 1 or phase == PHASES - 1:
                yield {k: v.copy() for k, v in w.items()}, dict(m)
            else:
                yield None, None  # At a boundary the wrapper is one prune and grow ahead.


def wrapped(inner=None, **options):
    inner = optax.sgd(0.1) if inner is None else inner
    settings = {"steps_per_phase": STEPS, "phases": PHASES, "key": jax.random.key(5)}
    return masks.grow_and_prune(inner, DENSITY, PARTS, **(settings | options))


def train(tx, updates, params=None):
    params = model() if params is None else params
    state = tx.init(params)
    params = masks.apply(params, state)
    step = jax.jit(tx.update)
    for number in range(updates):
        moves, state = step(gradients(number), state, params)
        params = optax.apply_updates(params, moves)
        yield params, state
    assert step._cache_size() == 1


def test_masks_and_weights_are_those_of_algorithm_1():
    tx = wrapped()
    first = {k.split("/")[0]: np.asarray(v) for k, v in tx.init(model()).masks.items()}
    for mask in first.values():
        assert mask.sum() == selection.count(mask.size, DENSITY)
    compared = 0
    for (params, state), (w, m) in zip(
        train(tx, STEPS * PHASES), walk(model(), first), strict=True
    ):
        if w is None:
            continue
        for name in SHAPES:
            np.testing.assert_array_equal(state.masks[f"{name}/kernel"], m[name])
            np.testing.assert_allclose(params[name]["kernel"], w[name], rtol=1e-6, atol=1e-7)
        compared += 1
    assert compared == STEPS * PHASES - PHASES + 1


def test_one_dense_partition_a_phase_and_none_afterwards():
    owner = {"a": 0, "b": 1, "c": 1, "d": 2}
    grown_in_a_round = set()
    for number, (params, state) in enumerate(train(wrapped(), STEPS * PHASES + 4), 1):
        phase = number // STEPS
        dense = {name for name in SHAPES if bool(state.masks[f"{name}/kernel"].all())}
        expected = {n for n in SHAPES if owner[n] == phase % 3} if phase < PHASES else set()
        assert dense == expected
        grown_in_a_round |= dense
        for name in SHAPES:
            mask = np.asarray(state.masks[f"{name}/kernel"])
            assert not np.any(np.asarray(params[name]["kernel"])[~mask])
            if name not in dense:
                assert mask.sum() == selection.count(mask.size, DENSITY)
    assert grown_in_a_round == SHAPES.keys()


def test_biases_and_dense_leaves_are_the_inner_optimizers():
    parts = masks.partitions({"all": r".*"}, dense=r"d/kernel")
    tx = masks.grow_and_prune(
        optax.sgd(0.1), DENSITY, parts, steps_per_phase=100, phases=1, key=jax.random.key(0)
    )
    plain, state = model(), optax.sgd(0.1).init(model())
    for number, (params, _) in enumerate(train(tx, 4)):
        moves, state = optax.sgd(0.1).update(gradients(number), state)
        plain = optax.apply_updates(plain, moves)
        for name in SHAPES:
            np.testing.assert_array_equal(params[name]["bias"], plain[name]["bias"])
        np.testing.assert_array_equal(params["d"]["kernel"], plain["d"]["kernel"])


@pytest.mark.parametrize("shares", [True, False])
def test_the_optimizer_starts_anew_at_each_phase_and_fine_tuning_takes_over(shares):
    fine = optax.adam(1e-3) if shares else optax.sgd(0.5, momentum=0.9)
    tx = wrapped(optax.adam(1e-2), fine_tune=fine)
    assert (tx.init(model()).fine_tune == ()) == shares
    end = STEPS * PHASES
    for number, (params, state) in enumerate(train(tx, end + 2), 1):
        if number <= end:
            assert int(optax.tree_utils.tree_get(state.inner, "count")) == (number - 1) % STEPS + 1
        if number == end:
            before = params
    # The first update of Adam is the learning rate in size; that of SGD .5 g, then 1.9 times.
    g = [np.asarray(gradients(end + i)["a"]["bias"]) for i in range(2)]
    moved = np.asarray(params["a"]["bias"] - before["a"]["bias"])
    if shares:
        assert np.all(np.abs(moved) <= 2.01e-3) and int(state.inner[0].count) == 2
    else:
        np.testing.assert_allclose(moved, -0.5 * (g[0] + g[1] + 0.9 * g[0]), rtol=1e-5)


def test_keeping_the_optimizers_state():
    *_, (_, state) = train(wrapped(optax.adam(1e-2), restart=False), STEPS * 2 + 1)
    assert int(state.inner[0].count) == STEPS * 2 + 1


def test_one_partition_is_dense_training_with_pruning_in_between():
    parts = masks.partitions({"all": r".*"})
    tx = masks.grow_and_prune(
        optax.sgd(0.1), DENSITY, parts, steps_per_phase=STEPS, phases=2, key=jax.random.key(1)
    )
    params = masks.apply(model(), tx.init(model()))
    expected = {name: np.asarray(params[name]["kernel"]) for name in SHAPES}
    for number, (params, _) in enumerate(train(tx, 2 * STEPS), 1):
        for name in SHAPES:
            move = np.float32(-0.1) * np.asarray(gradients(number - 1)[name]["kernel"])
            expected[name] = expected[name] + move
            if number % STEPS == 0:
                expected[name] = np.where(keep(expected[name], DENSITY), expected[name], 0)
            np.testing.assert_allclose(params[name]["kernel"], expected[name], rtol=1e-5, atol=1e-7)


def test_global_threshold_over_the_model():
    parts = masks.partitions({"all": r".*"})
    tx = masks.grow_and_prune(
        optax.sgd(0.1),
        DENSITY,
        parts,
        steps_per_phase=2,
        phases=1,
        key=jax.random.key(1),
        distribution="global",
    )
    *_, (params, state) = train(tx, 2)
    kept = sum(int(mask.sum()) for mask in state.masks.values())
    assert kept == round(DENSITY * sum(mask.size for mask in state.masks.values()))
    live = np.concatenate([np.abs(np.asarray(params[n]["kernel"])).ravel() for n in SHAPES])
    assert np.sum(live > 0) == kept


def test_global_threshold_with_partitions_meets_the_total_at_every_prune():
    tx = wrapped(optax.sgd(0.1), distribution="global")
    *_, (params, state) = train(tx, STEPS * PHASES + 1)
    sizes = {path: mask.size for path, mask in state.masks.items()}
    assert sum(int(mask.sum()) for mask in state.masks.values()) == round(
        DENSITY * sum(sizes.values())
    )
    alike = [float(mask.mean()) for mask in state.masks.values()]
    assert max(alike) > min(alike) + 0.01
    del params


def test_mask_error_is_what_pruning_takes_away():
    parts = masks.partitions({"all": r".*"})
    tx = masks.grow_and_prune(
        optax.sgd(0.0), DENSITY, parts, steps_per_phase=1, phases=1, key=jax.random.key(1)
    )
    params = model()
    state = tx.init(params)
    _, after = tx.update(gradients(0), state, params)  # Not masked at first: all is there to lose.
    lost = held = 0.0
    for name in SHAPES:
        w = np.asarray(params[name]["kernel"], np.float64)
        held += np.sum(w**2)
        lost += np.sum(w[~keep(w, DENSITY)] ** 2)
    assert float(after.mask_error) == pytest.approx(lost / held, rel=1e-5)


@pytest.mark.parametrize("structure", [masks.block(1, 8), masks.block(2, 3), masks.n_m(2, 4)])
def test_structures(structure):
    parts = masks.partitions({"all": r".*"}, dense=r"[ac]/kernel")
    density = 0.5
    tx = masks.grow_and_prune(
        optax.sgd(0.1),
        density,
        parts,
        steps_per_phase=2,
        phases=1,
        key=jax.random.key(1),
        structure=structure,
    )
    *_, (_, state) = train(tx, 3)
    for name in ("b", "d"):
        matrix = np.asarray(state.masks[f"{name}/kernel"]).T
        if structure == masks.n_m(2, 4):
            assert np.all(matrix.reshape(-1, 4).sum(1) == 2)
            continue
        rows, columns = structure.rows, structure.columns
        down, across = -(-matrix.shape[0] // rows), -(-matrix.shape[1] // columns)
        grid = np.zeros((down * rows, across * columns), bool)
        grid[: matrix.shape[0], : matrix.shape[1]] = matrix
        blocks = grid.reshape(down, rows, across, columns)
        kept = blocks.any((1, 3))
        assert kept.sum() == selection.count(kept.size, density)
        whole = np.repeat(np.repeat(kept, rows, 0), columns, 1)
        np.testing.assert_array_equal(matrix, whole[: matrix.shape[0], : matrix.shape[1]])


OPTIMIZERS = {
    "sgd": lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 50), momentum=0.9),
    "adamw": lambda: optax.adamw(1e-3),
    "lion": lambda: optax.lion(1e-3),
    "adafactor": lambda: optax.adafactor(1e-3),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    "accumulated": lambda: optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
    "muon": lambda: optax.contrib.muon(1e-3),
    "rmsprop": lambda: optax.rmsprop(1e-3),
    "lamb": lambda: optax.lamb(1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_keeps_masked_weights_at_zero(name):
    for number, (params, state) in enumerate(train(wrapped(OPTIMIZERS[name]()), STEPS * 2 + 2), 1):
        for path, mask in state.masks.items():
            weights = np.asarray(params[path.split("/")[0]]["kernel"])
            assert not np.any(weights[~np.asarray(mask)]), (number, path)
    assert np.any(np.asarray(params["a"]["kernel"]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_weights_are_exactly_zero_too(dtype):
    for params, state in train(wrapped(), STEPS * 2 + 1, model(dtype=dtype)):
        for path, mask in state.masks.items():
            weights = params[path.split("/")[0]]["kernel"]
            assert weights.dtype == dtype and not np.any(np.asarray(weights)[~np.asarray(mask)])


def test_random_order_draws_every_phase_and_excludes_the_last():
    owners = {f"{i}/kernel": "x" for i in range(8)}
    drawn = masks.phases(owners, ("x", "y"), 12, 5, order="random", seed=3)
    assert all(len(grown) == 4 for grown in drawn.grown)
    for before, after in zip(drawn.grown, drawn.grown[1:], strict=False):
        assert not before & after
    again = masks.phases(owners, ("x", "y"), 12, 5, order="random", seed=3, exclude_last=False)
    assert any(a & b for a, b in zip(again.grown, again.grown[1:], strict=False))
    *_, (_, state) = train(wrapped(order="random"), STEPS + 1)
    assert sum(bool(mask.all()) for mask in state.masks.values()) == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"In several: b/kernel in one, two\. In none: d/kernel"):
        wrong = masks.partitions({"one": r"[ab]/.*", "two": r"[bc]/.*"})
        masks.grow_and_prune(
            optax.sgd(0.1), 0.1, wrong, steps_per_phase=1, phases=1, key=jax.random.key(0)
        ).init(model())
    with pytest.raises(ValueError, match="hold no weight"):
        masks.partitions({"all": r".*", "more": r"x/.*"}).assign(model())
    with pytest.raises(ValueError, match="not a regular expression"):
        masks.partitions({"all": r"("})
    with pytest.raises(ValueError, match="phases=0"):
        wrapped(phases=0)
    with pytest.raises(ValueError, match="order='up'"):
        wrapped(order="up")
    with pytest.raises(ValueError, match="groups of 4 do not divide"):
        masks.grow_and_prune(
            optax.sgd(0.1),
            0.5,
            PARTS,
            steps_per_phase=1,
            phases=1,
            key=jax.random.key(0),
            structure=masks.n_m(2, 4),
        ).init(model())
    with pytest.raises(ValueError, match=r"have density 0\.5"):
        wrapped(structure=masks.n_m(2, 4)).init(model())
    with pytest.raises(ValueError, match="call update"):
        tx = wrapped()
        tx.update(model(), tx.init(model()))
    with pytest.raises(ValueError, match="matches none"):
        masks.prunable(model(), "nothing")


def test_golden_erdos_renyi_kernel():
    lenet = {"0": (784, 300), "1": (300, 100), "2": (100, 10)}
    conv = {"0": (3, 3, 3, 16), "1": (3, 3, 16, 32), "2": (3, 3, 32, 64), "3": (1024, 10)}
    for shapes, density, sparsities in (
        (lenet, 0.2, (0.837759, 0.530638, 0)),
        (lenet, 0.1, (0.920432, 0.769811, 0)),
        (lenet, 0.05, (0.961516, 0.888666, 0.081493)),
        (conv, 0.2, (0.678784, 0.934954, 0.969284, 0.439518)),
        (conv, 0.1, (0.839344, 0.967467, 0.984637, 0.719676)),
    ):
        found = masks.erk(shapes, density)
        np.testing.assert_allclose([1 - d for d in found.values()], sparsities, atol=1e-6)


def test_partial_growth_adds_drawn_weights_up_to_its_density():
    parts = masks.partitions({"first": r"a/.*", "second": r"(?!a/).*"})
    tx = masks.grow_and_prune(
        optax.sgd(0.1),
        DENSITY,
        parts,
        steps_per_phase=STEPS,
        phases=2,
        key=jax.random.key(1),
        growth_density=0.6,
    )
    first = tx.init(model()).masks
    for number, (params, state) in enumerate(train(tx, 2 * STEPS + 1), 1):
        for path, mask in state.masks.items():
            live, size = int(mask.sum()), mask.size
            is_grown = path.startswith("a/") == (number < STEPS) and number < 2 * STEPS
            wanted = 0.6 if is_grown else DENSITY
            assert live == round(wanted * size), (number, path)
            kernel = np.asarray(params[path.split("/")[0]]["kernel"])
            assert not np.any(kernel[~np.asarray(mask)])
            if number < STEPS:
                np.testing.assert_array_equal(mask, first[path])


@pytest.mark.parametrize(
    "kind", [{"growth_density": 0.01}, {"growth_density": 0.5, "structure": masks.block(1, 2)}]
)
def test_partial_growth_that_cannot_be(kind):
    with pytest.raises(ValueError, match="growth_density"):
        wrapped(optax.sgd(0.1), **kind)
