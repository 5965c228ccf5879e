import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks, selection
from sparsetrain.masks.drop_and_grow import drop_and_grow
from sparsetrain.masks.gradual import cubic_density

SHAPES = {"a": (20, 30), "b": (30, 7)}
SIZES = {name: shape[0] * shape[1] for name, shape in SHAPES.items()}


def model(seed=0):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {
        name: {"kernel": jax.random.normal(key, shape), "bias": jnp.zeros(shape[-1])}
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def gradients(step):
    return jax.tree.map(lambda leaf: 0.3 * leaf, model(100 + step))


def train(tx, updates):
    params = model()
    state = tx.init(params)
    params = masks.apply(params, state)
    step = jax.jit(tx.update)
    for number in range(updates):
        before = params, state
        moves, state = step(gradients(number), state, params)
        params = optax.apply_updates(params, moves)
        yield before, (params, state)
    assert step._cache_size() == 1


def check_zero(params, state):
    for path, mask in state.masks.items():
        assert not np.any(np.asarray(params[path.split("/")[0]]["kernel"])[~np.asarray(mask)])


def largest(values, k, among):
    """Oracle: positions of the k largest magnitudes among some, by a stable sort."""
    flat = np.where(among.ravel(), np.abs(values.ravel()), -1)
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[:k]] = True
    return mask.reshape(values.shape)


@pytest.mark.parametrize("growth", ["rigl", "evolutionary"])
def test_drop_and_grow_against_a_sort(growth):
    factory = getattr(masks, growth)
    tx = factory(optax.adam(0.01), 0.2, key=jax.random.key(3), every=3, until=9)
    first = {}
    for number, (before, (params, state)) in enumerate(train(tx, 11), 1):
        check_zero(params, state)
        first = first or {path: int(mask.sum()) for path, mask in before[1].masks.items()}
        assert {path: int(mask.sum()) for path, mask in state.masks.items()} == first
        changed = number % 3 == 0 and number < 9
        for name in SHAPES:
            path = f"{name}/kernel"
            old, new = (np.asarray(s.masks[path]) for s in (before[1], state))
            if not changed:
                np.testing.assert_array_equal(old, new)
                continue
            share = np.float32(0.3)
            if growth == "rigl":
                share = np.float32(0.15) * (1 + np.cos(np.float32(np.pi) * number / 9))
            count = min(int(share * old.sum()), int((~old).sum()))
            assert count > 0
            if growth == "rigl":  # The change takes the step's place.
                w = np.asarray(before[0][name]["kernel"])
                g = np.asarray(gradients(number - 1)[name]["kernel"])
                kept = largest(w, int(old.sum()) - count, old)
                grown = largest(g, count, ~kept)
                np.testing.assert_array_equal(new, kept | grown)
                here, there = (np.asarray(p[name]["kernel"]) for p in (params, before[0]))
                np.testing.assert_array_equal(here[kept], there[kept])
                assert not np.any(here[new & ~old])
                np.testing.assert_array_equal(params[name]["bias"], before[0][name]["bias"])
                moments = np.asarray(state.inner[0].mu[name]["kernel"])
                assert not np.any(moments[new & ~old]) and np.any(moments[kept])
            else:
                # Some of those dropped may be drawn again.
                assert 0 < np.sum(old & ~new) <= count


def test_golden_update():
    mask = jnp.array([0, 1, 0, 1, 0, 1, 1, 0], bool)
    drop = jnp.array([-9.0, 1, 4, -1, 5, 8, -2, 3])
    (new,) = drop_and_grow([mask], [drop + 10], [drop], jnp.array([2]))
    assert new.astype(int).tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


def test_cubic_ramp():
    golden = (0.0, 0.5203125, 0.7875, 0.8859375, 0.9)
    found = [1 - cubic_density(progress / 4, 1.0, 0.1) for progress in range(5)]
    np.testing.assert_allclose(found, golden, atol=1e-12)
    array = 1 - cubic_density(jnp.arange(5) / 4, 1.0, 0.1)
    np.testing.assert_allclose(array, golden, atol=1e-6)


@pytest.mark.parametrize("distribution", ["uniform", "erk", "global"])
def test_gradual_pruning_keeps_the_largest(distribution):
    tx = masks.gradual(
        optax.sgd(0.1, momentum=0.9), 0.1, begin=2, end=10, every=2, distribution=distribution
    )
    for number, (before, (params, state)) in enumerate(train(tx, 13), 1):
        check_zero(params, state)
        density = float(cubic_density((number - 2) / 8, 1.0, 0.1)) if number >= 2 else 1.0
        kept = sum(int(mask.sum()) for mask in state.masks.values())
        if number % 2 or number > 10:
            for path in state.masks:
                np.testing.assert_array_equal(state.masks[path], before[1].masks[path])
        elif distribution == "global":
            assert abs(kept - density * sum(SIZES.values())) <= 1
        elif distribution == "uniform":
            for name, size in SIZES.items():
                assert abs(int(state.masks[f"{name}/kernel"].sum()) - density * size) <= 1
        for path, mask in state.masks.items():
            assert not np.any(np.asarray(mask) & ~np.asarray(before[1].masks[path]))
        if number == 10:
            assert float(state.mask_error) > 0
    if distribution == "erk":
        wanted = masks.erk(SHAPES, 0.1)
        for name, size in SIZES.items():
            assert int(state.masks[f"{name}/kernel"].sum()) == selection.count(size, wanted[name])
    else:
        assert kept == (
            round(0.1 * sum(SIZES.values()))
            if distribution == "global"
            else sum(selection.count(size, 0.1) for size in SIZES.values())
        )


def test_static_masks_stay_and_scores_choose():
    tx = masks.static(optax.adam(0.1), 0.25, key=jax.random.key(0), dense=r"b/kernel")
    for before, (params, state) in train(tx, 3):
        assert list(state.masks) == ["a/kernel"]
        check_zero(params, state)
        np.testing.assert_array_equal(state.masks["a/kernel"], before[1].masks["a/kernel"])
    params = model()
    state = masks.static(optax.sgd(0.1), 0.25, scores=params, distribution="global").init(params)
    flat = np.concatenate([np.abs(params[n]["kernel"]).ravel() for n in SHAPES])
    threshold = np.sort(flat)[-round(0.25 * flat.size)]
    for name in SHAPES:
        np.testing.assert_array_equal(
            state.masks[f"{name}/kernel"], np.abs(params[name]["kernel"]) >= threshold
        )


def test_bad_arguments():
    sgd, key = optax.sgd(0.1), jax.random.key(0)
    with pytest.raises(ValueError, match="give a JAX key"):
        masks.static(sgd, 0.1)
    with pytest.raises(ValueError, match="give scores"):
        masks.static(sgd, 0.1, key=key, distribution="global")
    with pytest.raises(ValueError, match="begin=5, end=2"):
        masks.gradual(sgd, 0.1, begin=5, end=2)
    with pytest.raises(ValueError, match="cannot be reached gradually"):
        masks.gradual(sgd, 0.5, begin=1, end=2, structure=masks.n_m(2, 4))
    with pytest.raises(ValueError, match=r"fraction=1\.5"):
        masks.rigl(sgd, 0.1, key=key, until=10, fraction=1.5)
    with pytest.raises(ValueError, match="every=0"):
        masks.evolutionary(sgd, 0.1, key=key, every=0, until=10)
    with pytest.raises(ValueError, match=r"\['v'\] matched no leaf"):
        masks.densities({"w": (2, 2)}, 0.1, {"w": 0.1, "v": 0.1})
    with pytest.raises(ValueError, match="must lie in"):
        masks.densities({"w": (2, 2)}, 0.1, {"w": 0.0})


def test_set_by_sign_drops_from_both_ends_and_sows():
    tx = masks.evolutionary(
        optax.sgd(0.0), 0.3, key=jax.random.key(3), every=2, until=9, by_sign=True, spread=0.5
    )
    sown = []
    for number, (before, (params, state)) in enumerate(train(tx, 10), 1):
        check_zero(params, state)
        for name in SHAPES:
            path = f"{name}/kernel"
            old, new = (np.asarray(s.masks[path]) for s in (before[1], state))
            w = np.asarray(before[0][name]["kernel"])
            assert old.sum() == new.sum()
            if number % 2 or number >= 9:
                np.testing.assert_array_equal(old, new)
                continue
            dropped = np.zeros_like(old)
            for side in (old & (w >= 0), old & (w < 0)):
                count = int(np.float32(0.3) * side.sum())
                assert count > 0
                dropped |= side & ~largest(w, int(side.sum()) - count, side)
            np.testing.assert_array_equal(new & old, old & ~dropped)
            values = np.asarray(params[name]["kernel"])
            np.testing.assert_array_equal(values[new & old], w[new & old])
            sown += values[new & ~old].tolist()
    assert len(sown) > 100 and np.count_nonzero(sown) == len(sown)
    assert np.std(sown) == pytest.approx(0.5, rel=0.2)


def test_set_refuses_a_negative_spread():
    with pytest.raises(ValueError, match="spread=-1"):
        masks.evolutionary(optax.sgd(0.1), 0.3, key=jax.random.key(0), every=1, until=2, spread=-1)
