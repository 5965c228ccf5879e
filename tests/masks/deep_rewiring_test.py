import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks

SHAPES = {"a": (12, 10), "b": (10, 4)}


def model():
    return {
        name: {"kernel": jax.random.normal(jax.random.key(i), shape)}
        for i, (name, shape) in enumerate(SHAPES.items())
    }


@pytest.mark.parametrize("scope", ["model", "leaf"])
def test_a_walk_against_numpy(scope):
    """The draws of a single update are read off the update itself; the rest is arithmetic."""
    eta, alpha = 0.1, 0.5
    tx = masks.deep_rewiring(
        optax.sgd(eta), 0.3, key=jax.random.key(1), learning_rate=eta, l1=alpha, scope=scope
    )
    params = model()
    state = tx.init(params)
    params = masks.apply(params, state)
    step = jax.jit(tx.update)
    died = 0
    for number in range(12):
        g = jax.tree.map(lambda w: 3 * w + 1.0, model())
        updates, new = step(g, state, params)
        moved = optax.apply_updates(params, updates)
        total = 0
        for name in SHAPES:
            path = f"{name}/kernel"
            mask, after = (np.asarray(each.masks[path]) for each in (state, new))
            sign = np.where(np.asarray(state.memory[path]), 1.0, -1.0)
            w = np.asarray(params[name]["kernel"])
            theta = sign * (w - eta * np.asarray(g[name]["kernel"]) * mask) - eta * alpha
            alive = mask & (theta >= 0)
            got = np.asarray(moved[name]["kernel"])
            np.testing.assert_allclose(got[alive], (sign * theta)[alive], atol=1e-6)
            assert after[alive].all() and not got[~alive].any()
            if number == 0:  # Whoever was alive had the sign of its weight.
                assert np.all(sign[mask] * w[mask] >= 0)
            died += int((mask & ~alive).sum())
            total += int(after.sum())
            if scope == "leaf":
                assert after.sum() == mask.sum()
            np.testing.assert_array_equal(state.memory[path], new.memory[path])
        assert total == sum(int(mask.sum()) for mask in state.masks.values())
        params, state = moved, new
    assert died > 20 and step._cache_size() == 1


def test_without_steps_it_is_masked_training_and_with_heat_it_moves():
    params = model()
    still = masks.deep_rewiring(
        optax.sgd(0.0), 0.3, key=jax.random.key(0), learning_rate=0.0, l1=0.0
    )
    state = still.init(params)
    live = masks.apply(params, state)
    updates, state = still.update(params, state, live)
    moved = optax.apply_updates(live, updates)
    for name in SHAPES:
        np.testing.assert_array_equal(moved[name]["kernel"], live[name]["kernel"])
    hot = masks.deep_rewiring(
        optax.sgd(0.0), 0.3, key=jax.random.key(0), learning_rate=0.5, l1=0.0, temperature=0.04
    )
    updates, state = hot.update(params, hot.init(params), live)
    steps = np.concatenate(
        [
            np.asarray(updates[name]["kernel"])[np.asarray(live[name]["kernel"]) != 0]
            for name in SHAPES
        ]
    )
    # Standard deviation sqrt(2 .5 .04) = .2; who crossed zero was set to it.
    assert 0.1 < steps.std() < 0.3


def test_after_the_end_nothing_walks():
    tx = masks.deep_rewiring(
        optax.sgd(0.1), 0.3, key=jax.random.key(1), learning_rate=0.1, l1=9.0, until=1
    )
    params = model()
    state = tx.init(params)
    params = masks.apply(params, state)
    g = jax.tree.map(jnp.ones_like, params)
    seen = []
    for _ in range(3):
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        seen.append({path: np.asarray(mask) for path, mask in state.masks.items()})
    for path, mask in seen[0].items():
        np.testing.assert_array_equal(mask, seen[2][path])
        np.testing.assert_allclose(np.asarray(updates[path[0]]["kernel"])[mask], -0.1, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "message"),
    [({"l1": -1.0}, "l1"), ({"scope": "tree"}, "scope"), ({"distribution": "global"}, "global")],
)
def test_refusals(kind, message):
    with pytest.raises(ValueError, match=message):
        masks.deep_rewiring(
            optax.sgd(0.1), 0.3, **({"key": jax.random.key(0), "learning_rate": 0.1} | kind)
        )
