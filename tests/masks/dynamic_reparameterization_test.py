import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsetrain import masks
from sparsetrain.masks.dynamic_reparameterization import shares

SHAPES = {"a": (20, 15), "b": (15, 12), "c": (12, 2)}


def model():
    return {
        name: {"kernel": 0.1 * jax.random.normal(jax.random.key(i), shape)}
        for i, (name, shape) in enumerate(SHAPES.items())
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 300)), min_size=4, max_size=4), st.data()
)
def test_shares_meet_the_total_and_the_rooms(pairs, draw):
    weights, rooms = (np.array(each, np.int32) for each in zip(*pairs, strict=True))
    total = draw.draw(st.integers(0, int(rooms.sum()) + 50))
    found = np.asarray(jax.jit(shares)(jnp.int32(total), jnp.array(weights), jnp.array(rooms)))
    assert found.sum() == min(total, rooms.sum())
    assert np.all(found >= 0) and np.all(found <= rooms)
    exact = total * weights / weights.sum()
    if np.all(exact + 1 <= rooms):
        assert np.all(np.abs(found - exact) < 1.01)


def test_changes_against_numpy():
    tx = masks.dynamic_reparameterization(
        optax.sgd(0.05), 0.3, key=jax.random.key(2), every=2, until=30, fraction=0.1, threshold=0.02
    )
    params = model()
    state = tx.init(params)
    params = masks.apply(params, state)
    step = jax.jit(tx.update)
    total = sum(int(mask.sum()) for mask in state.masks.values())
    factors = set()
    for number in range(1, 33):
        keys = jax.random.split(jax.random.key(100 + number), len(SHAPES))
        g = {
            n: {"kernel": jax.random.normal(k, SHAPES[n])}
            for n, k in zip(SHAPES, keys, strict=True)
        }
        updates, new = step(g, state, params)
        moved = optax.apply_updates(params, updates)
        threshold = float(state.memory)
        pruned, survivors = 0, {}
        for name in SHAPES:
            path = f"{name}/kernel"
            mask, after = (np.asarray(each.masks[path]) for each in (state, new))
            w = np.asarray(params[name]["kernel"]) - 0.05 * np.asarray(g[name]["kernel"]) * mask
            assert not np.asarray(moved[name]["kernel"])[~after].any()
            if number % 2 or number >= 30:
                np.testing.assert_array_equal(mask, after)
                continue
            weak = mask & (np.abs(w) < threshold)
            assert (mask & ~weak).any()
            assert after[mask & ~weak].all() and not after[weak].any()
            assert not np.asarray(moved[name]["kernel"])[after & ~mask].any()
            pruned += int(weak.sum())
            survivors[name] = int((mask & ~weak).sum()), int((after & ~mask).sum())
        assert sum(int(mask.sum()) for mask in new.masks.values()) == total
        if survivors:
            share = pruned / sum(kept for kept, _ in survivors.values())
            for name, (kept, grown) in survivors.items():
                room = SHAPES[name][0] * SHAPES[name][1] - int(state.masks[f"{name}/kernel"].sum())
                assert grown == room or abs(grown - share * kept) < 2
            wanted = 0.1 * total
            factor = 0.5 if pruned > 1.1 * wanted else 2.0 if pruned < 0.9 * wanted else 1.0
            assert float(new.memory) == pytest.approx(threshold * factor)
            factors.add(factor)
        params, state = moved, new
    assert len(factors) > 1 and step._cache_size() == 1


def test_one_weight_stays_in_every_layer():
    params = jax.tree.map(lambda leaf: 1e-6 * leaf, model())
    tx = masks.dynamic_reparameterization(
        optax.sgd(0.0), 0.2, key=jax.random.key(0), every=1, until=5, threshold=1.0
    )
    state = tx.init(params)
    before = sum(int(mask.sum()) for mask in state.masks.values())
    params = masks.apply(params, state)
    updates, state = tx.update(params, state, params)
    moved = optax.apply_updates(params, updates)
    assert sum(int(mask.sum()) for mask in state.masks.values()) == before
    for name in SHAPES:
        assert np.count_nonzero(moved[name]["kernel"]) == 1


def test_refusals():
    with pytest.raises(ValueError, match="threshold=0"):
        masks.dynamic_reparameterization(
            optax.sgd(0.1), 0.3, key=jax.random.key(0), every=1, until=5, threshold=0
        )
