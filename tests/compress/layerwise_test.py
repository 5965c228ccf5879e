import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, selection
from sparsetrain.compress.layerwise_adjust import one_step
from sparsetrain.compress.layerwise_split import largest_remainder, split
from sparsetrain.selection.layer_ranks import ranked
from sparsetrain.selection.layers import arrange


def order(u):
    return np.argsort(-np.abs(u), kind="stable")


def oracle_step(leaves, k, pairing="extreme", k_min=0):
    """ONESTEPADJUSTMENT of methods.md 5.3 on sorted magnitudes, as it is written there."""
    sorted_ = [np.sort(np.abs(leaf))[::-1].astype(np.float64) for leaf in leaves]
    sizes = [len(a) for a in sorted_]
    k = list(k)
    lo = [a[n - 1] if n else np.inf for a, n in zip(sorted_, k, strict=True)]
    hi = [a[n] if n < len(a) else -np.inf for a, n in zip(sorted_, k, strict=True)]

    def admissible(i, j):
        return k[i] > k_min and k[j] < sizes[j] and hi[j] > lo[i]

    givers = [i for i in range(len(k)) if k[i] > k_min]
    receivers = [j for j in range(len(k)) if k[j] < sizes[j]]
    if not givers or not receivers:
        return k
    extreme = (min(givers, key=lo.__getitem__), max(receivers, key=hi.__getitem__))
    pairs = [extreme] if admissible(*extreme) else []
    if pairing == "sorted":
        threshold = [low if n else high for low, high, n in zip(lo, hi, k, strict=True)]
        ranks = np.argsort(threshold, kind="stable")
        found = list(zip(ranks[: len(k) // 2], ranks[::-1][: len(k) // 2], strict=True))
        pairs = [pair for pair in found if admissible(*pair)] or pairs
    new = list(k)
    for i, j in pairs:
        a, b = sorted_[i], sorted_[j]
        low, high = lo[i], lo[j] if k[j] else hi[j]
        middle = (low + high) / 2
        given = int((a[: k[i]] < high).sum())
        taken = int((b[k[j] :] >= low).sum())
        d = int((a[: k[i]] < middle).sum()) if given < taken else int((b[k[j] :] >= middle).sum())
        d = int(np.clip(d, 1, min(k[i] - k_min, sizes[j] - k[j])))
        while d > 1 and b[k[j] + d - 1] < a[k[i] - d]:
            d -= 1
        new[i] -= d
        new[j] += d
    return new


def step(leaves, k, pairing="extreme", k_min=0):
    leaves, k = [jnp.asarray(leaf, jnp.float32) for leaf in leaves], jnp.array(k, jnp.int32)
    after, pairs = jitted_step(leaves, k, pairing, k_min)
    return after.tolist(), bool(pairs.moves.any())


def _step(leaves, k, pairing, k_min):
    layers = arrange(leaves)
    return one_step(layers, k, ranked(layers, k, jnp.zeros(k.shape, jnp.int32)), pairing, k_min)


jitted_step = jax.jit(_step, static_argnums=(2, 3))

GOLDEN = [[10, 9, 8, 1], [7, 6, 5, 4], [3, 2.5, 2, 1.5]]
TWO = [[9, 8, 7, 6, 5, 4, 3, 2], [1, 0.9, 0.8, 0.7]]


def test_golden_values():
    assert step(GOLDEN, (2, 2, 2)) == ([3, 2, 1], True)
    assert step(GOLDEN, (3, 2, 1)) == ([3, 3, 0], True)
    assert step(GOLDEN, (3, 3, 0)) == ([3, 3, 0], False)
    assert step(TWO, (4, 2)) == ([6, 0], True)
    assert step(TWO, (4, 2), k_min=1) == ([5, 1], True)
    assert step(TWO, (5, 1), k_min=1) == ([5, 1], False)


SIZES = (40, 7, 300, 90, 1)


def example(seed, kind):
    rng = np.random.default_rng(seed)
    leaves = []
    for size in SIZES:
        scale = 10 ** rng.uniform(-1.5, 0.5)
        leaf = scale * (rng.laplace(size=size) if kind == "laplace" else rng.standard_normal(size))
        leaves.append((np.round(10 * leaf) if kind == "ties" else leaf).astype(np.float32))
    return leaves


@pytest.mark.parametrize("pairing", ["extreme", "sorted"])
@pytest.mark.parametrize("kind", ["normal", "laplace", "ties"])
def test_steps_are_those_of_the_oracle_until_the_global_top_k(pairing, kind):
    for seed in range(8):
        leaves = example(seed, kind)
        total = selection.count(sum(SIZES), 0.15)
        k = [min(size, total // len(SIZES)) for size in SIZES]
        k[2] += total - sum(k)
        for _ in range(60):
            expected = oracle_step(leaves, k, pairing)
            after, moved = step(leaves, k, pairing)
            assert after == expected and sum(after) == total
            assert moved == (after != k)
            if not moved:
                break
            k = after
        assert not moved
        flat = np.abs(np.concatenate(leaves))
        chosen = np.concatenate(
            [np.sort(np.abs(leaf))[::-1][:n] for leaf, n in zip(leaves, k, strict=True)]
        )
        np.testing.assert_array_equal(np.sort(chosen), np.sort(flat)[::-1][:total][::-1])


def tree(seed=0, kind="normal"):
    return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(example(seed, kind))}


@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_optimal_adjustment_is_the_global_top_k_of_the_same_u(kind):
    dls, exact = compress.layerwise(0.15, steps=None), compress.global_top_k(0.15)
    compressed, best_of = jax.jit(dls.compress), jax.jit(exact.compress)
    total = selection.count(sum(SIZES), 0.15)
    for seed in range(4):
        u = tree(seed, kind)
        first, state = compressed(u, dls.init(u))
        second, after = compressed(u, state)
        best, _ = best_of(u, exact.init(u))
        assert first.counts.tolist() != second.counts.tolist()
        for name in ("values", "indices", "counts"):
            np.testing.assert_array_equal(getattr(second, name), getattr(best, name))
        assert after.counts.tolist() == second.counts.tolist()  # Idempotent.
        # A sort of the concatenation; a shared threshold by counting; a global magnitude mask.
        flat = np.concatenate(list(u.values()))
        mask = np.zeros(flat.shape, bool)
        mask[order(flat)[:total]] = True
        leaf_of = np.repeat(np.arange(len(SIZES)), SIZES)
        assert second.counts.tolist() == np.bincount(leaf_of[mask], minlength=5).tolist()
        threshold = selection.kth_magnitude_of(list(u.values()), total)
        reaching = [int((jnp.abs(leaf) >= threshold).sum()) for leaf in u.values()]
        if kind == "normal":
            assert second.counts.tolist() == reaching
        assert sum(reaching) >= total
        sent = np.concatenate(dls.decompress(second))
        np.testing.assert_array_equal(sent, np.where(mask, flat, 0))
    assert compressed._cache_size() == 1


def test_the_first_round_is_layer_wise_and_the_sum_never_moves():
    dls = compress.layerwise(0.15, steps=2)
    state = dls.init(tree())
    k = selection.count(sum(SIZES), 0.15)
    exact = [k * size / sum(SIZES) for size in SIZES]
    assert all(abs(n - e) <= 1 for n, e in zip(state.counts.tolist(), exact, strict=True))
    compressed = jax.jit(dls.compress)
    for seed in range(4):
        expected = state.counts.tolist()
        for _ in range(2):
            expected = oracle_step(list(tree(seed).values()), expected)
        payload, state = compressed(tree(seed), state)
        dense = dls.decompress(payload)
        counts = payload.counts.tolist()
        for leaf, u, n, low in zip(
            dense, tree(seed).values(), counts, state.thresholds.tolist(), strict=True
        ):
            chosen = order(np.asarray(u))[:n]
            assert np.flatnonzero(leaf).tolist() == sorted(chosen)
            assert low == (np.abs(u)[chosen[-1]] if n else 0)
        assert state.counts.tolist() == expected and sum(expected) == k
    assert compressed._cache_size() == 1


def test_adjusts_every_so_many_rounds():
    u, dls = tree(3), compress.layerwise(0.15, interval=2)
    compressed, state = jax.jit(dls.compress), dls.init(tree(3))
    seen = [state.counts.tolist()]
    for _ in range(4):
        _, state = compressed(u, state)
        seen.append(state.counts.tolist())
    assert seen[0] == seen[1] and seen[1] != seen[2] and seen[2] == seen[3] != seen[4]


def test_thresholds_approach_by_half_where_there_is_mass_between():
    rng = np.random.default_rng(0)
    for seed in range(20):
        leaves = [rng.standard_normal(4000), rng.uniform(0.75, 1.0) * rng.laplace(size=4000)]
        k = [200, 200]
        low = [np.sort(np.abs(leaf))[::-1][199] for leaf in leaves]
        after, moved = step(leaves, k)
        new = [np.sort(np.abs(leaf))[::-1][n - 1] for leaf, n in zip(leaves, after, strict=True)]
        assert moved and sum(after) == 400, seed
        # One entry more than half, for thresholds are entries.
        assert abs(new[0] - new[1]) <= 0.52 * abs(low[0] - low[1])
        assert min(low) <= min(new) and max(new) <= max(low)


def test_equal_layers_are_left_alone():
    leaf = np.random.default_rng(0).standard_normal(50)
    assert step([leaf, leaf, leaf], (7, 7, 7)) == ([7, 7, 7], False)
    # Ties are enough: what is not larger does not displace.
    assert step([np.ones(5), np.ones(5)], (1, 3)) == ([1, 3], False)


@pytest.mark.parametrize("workers", ["shared", "local"])
def test_workers(workers):
    dls = compress.layerwise(0.15, workers=workers)
    tx = compress.exchange(dls, axis_name="workers")
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree(seed) for seed in range(4)))
    start = state = jax.vmap(tx.init)(stack)
    run = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    seen = []
    for _ in range(2):
        _, state = run(stack, state)
        seen.append(np.asarray(state.compressor.counts))
    assert all((counts.sum(axis=1) == selection.count(sum(SIZES), 0.15)).all() for counts in seen)
    assert all(bool((c == c[:1]).all()) == (workers == "shared") for c in seen)
    k = start.compressor.counts[0].tolist()
    own = np.array([oracle_step(list(tree(seed).values()), k) for seed in range(4)])
    if workers == "local":
        np.testing.assert_array_equal(seen[0], own)
    else:
        assert (np.abs(seen[0][0] - own.mean(axis=0)) < 1).all()
    assert run._cache_size() == 1


def test_a_worker_with_nothing_finite_to_say_keeps_its_counts():
    tx = compress.exchange(compress.layerwise(0.15))
    update, state = jax.jit(tx.update), tx.init(tree())
    _, state = update(tree(), state)
    broken = {**tree(1), "1": tree(1)["1"].at[2].set(jnp.nan)}
    updates, after = update(broken, state)
    assert after.compressor.counts.tolist() == state.compressor.counts.tolist()
    assert not any(leaf.any() for leaf in updates.values())


def test_conserves_and_takes_any_tree():
    u = {
        "scalar": jnp.float32(3.0),
        "empty": jnp.zeros((0, 4)),
        "none": None,
        "half": jnp.ones((5,), jnp.bfloat16),
        "w": jnp.linspace(-1.0, 2.0, 42).reshape(6, 7),
    }
    tx = compress.exchange(compress.layerwise(0.2, pairing="sorted", steps=2))
    update, state = jax.jit(tx.update), tx.init(u)
    fed = sent = jax.tree.map(jnp.zeros_like, u)
    for scale in (1.0, -2.0, 0.0, 0.5):
        g = jax.tree.map(lambda leaf, scale=scale: (scale * leaf).astype(leaf.dtype), u)
        updates, state = update(g, state)
        fed, sent = jax.tree.map(jnp.add, fed, g), jax.tree.map(jnp.add, sent, updates)
        assert int(state.compressor.counts.sum()) == selection.count(48, 0.2)
    for a, b, r in zip(*map(jax.tree.leaves, (fed, sent, state.memory.residual)), strict=True):
        np.testing.assert_allclose(np.float32(a), np.float32(b) + r, atol=1e-5)
    assert update._cache_size() == 1


@pytest.mark.parametrize(
    ("sizes", "density", "steps"),
    [((6,), 0.5, 1), ((6, 3), 1.0, None), ((6, 3), 1e-6, None)],
    ids=["one leaf", "all", "one entry"],
)
def test_extremes(sizes, density, steps):
    rng = np.random.default_rng(4)
    u = [jnp.asarray(rng.standard_normal(size), jnp.float32) for size in sizes]
    dls = compress.layerwise(density, steps=steps)
    compressed = jax.jit(dls.compress)
    _, state = compressed(u, dls.init(u))
    payload, _ = compressed(u, state)
    flat, k = np.concatenate(u), selection.count(sum(sizes), density)
    assert np.flatnonzero(np.concatenate(dls.decompress(payload))).tolist() == sorted(
        order(flat)[:k]
    )
    # Of nothing comes nothing, and the counts stay.
    payload, after = compressed([0 * leaf for leaf in u], state)
    assert not payload.values.any() and after.counts.tolist() == state.counts.tolist()


def test_a_tree_without_entries():
    dls = compress.layerwise(0.1)
    for u in ({}, {"a": jnp.zeros((0,))}):
        payload, state = dls.compress(u, dls.init(u))
        assert payload.values.shape == (0,) and not state.counts.any()


def test_split_keeps_sum_and_bounds():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 60, 6).tolist()
        least = int(rng.integers(0, 3))
        lower = sum(min(least, size) for size in sizes)
        k = int(rng.integers(lower, sum(sizes) + 1))
        initial = None if rng.random() < 0.3 else (rng.random(6) ** 8).tolist()
        found = split(sizes, k, least, initial)
        assert sum(found) == k
        assert all(min(least, n) <= f <= n for n, f in zip(sizes, found, strict=True))
    assert split([100, 300, 600], 10) == [1, 3, 6]
    assert split([10, 10], 15, initial=[1.0, 0.0]) == [10, 5]


def test_starts_from_densities_that_share_a_threshold():
    rng = np.random.default_rng(5)
    scales, sizes = (0.2, 1.0, 0.5), (3000, 500, 1000)
    u = [jnp.asarray(s * rng.standard_normal(n)) for s, n in zip(scales, sizes, strict=True)]
    initial = compress.initial_densities(0.02, sizes, scales)
    counts = compress.layerwise(0.02, initial=initial).init(u).counts
    best, _ = compress.global_top_k(0.02).compress(u, compress.global_top_k(0.02).init(u))
    assert int(counts.sum()) == 90
    assert np.abs(counts - best.counts).sum() <= 12
    plain = compress.layerwise(0.02).init(u).counts
    assert np.abs(plain - best.counts).sum() > 80
    with pytest.raises(ValueError, match="2 densities for 3 leaves"):
        compress.layerwise(0.02, initial=[0.5, 0.5]).init(u)


def test_largest_remainder_keeps_the_sum():
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.multinomial(37, np.ones(6) / 6, size=4)
        mean = np.asarray(largest_remainder(jnp.asarray(counts.sum(0), jnp.int32), 4, 37))
        assert mean.sum() == 37
        assert (np.abs(mean - counts.mean(0)) < 1).all()


def test_least_entries_of_a_layer():
    u = {"a": jnp.arange(1.0, 21.0) * 100, "b": jnp.arange(1.0, 11.0)}
    dls = compress.layerwise(0.3, steps=None, k_min=2)
    _, state = jax.jit(dls.compress)(u, dls.init(u))
    assert state.counts.tolist() == [7, 2]
    with pytest.raises(ValueError, match="k_min=9"):
        compress.layerwise(0.1, k_min=9).init(u)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0}, "density=0"),
        ({"steps": 0}, "steps=0"),
        ({"interval": 0}, "interval=0"),
        ({"pairing": "random"}, "pairing='random'"),
        ({"k_min": -1}, "k_min=-1"),
        ({"workers": "all"}, "workers='all'"),
        ({"initial": [0.5, 1.5]}, "between 0 and 1"),
        ({"initial": [0.0, 0.0]}, "not all of them 0"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        compress.layerwise(**{"density": 0.1, **options})
