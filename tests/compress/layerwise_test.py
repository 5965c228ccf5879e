import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, selection
from sparsetrain.compress.layerwise_adjust import largest_remainder, one_step


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
    after, moved = jitted_step(leaves, k, pairing, k_min)
    return after.tolist(), bool(moved)


def _step(leaves, k, pairing, k_min):
    return one_step(leaves, k, selection.ranked(leaves, k), pairing, k_min)


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
        leaves.append((np.round(leaf) if kind == "ties" else leaf).astype(np.float32))
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


def tree(seed=0):
    return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(example(seed, "normal"))}


def test_optimal_adjustment_is_the_global_top_k_of_the_next_round():
    u, dls, exact = tree(), compress.layerwise(0.15, steps=None), compress.global_top_k(0.15)
    state = dls.init(u)
    compressed = jax.jit(dls.compress)
    first, state = compressed(u, state)
    second, state = compressed(u, state)
    best, _ = exact.compress(u, exact.init(u))
    assert first.counts.tolist() != second.counts.tolist()
    for name in ("values", "indices", "counts"):
        np.testing.assert_array_equal(getattr(second, name), getattr(best, name))
    assert state.counts.tolist() == second.counts.tolist()  # Idempotent.
    assert compressed._cache_size() == 1


def test_the_first_round_is_layer_wise_and_the_sum_never_moves():
    u, dls = tree(), compress.layerwise(0.15, steps=2)
    state = dls.init(u)
    k = selection.count(sum(SIZES), 0.15)
    exact = [k * size / sum(SIZES) for size in SIZES]
    assert all(abs(n - e) <= 1 for n, e in zip(state.counts.tolist(), exact, strict=True))
    compressed = jax.jit(dls.compress)
    for seed in range(4):
        payload, state = compressed(tree(seed), state)
        dense = dls.decompress(payload)
        for leaf, u_leaf, n in zip(
            dense, tree(seed).values(), payload.counts.tolist(), strict=True
        ):
            assert sorted(np.flatnonzero(leaf)) == sorted(order(np.asarray(u_leaf))[:n])
        assert int(state.counts.sum()) == k


def test_steps_and_interval():
    u = tree(3)
    many, one = compress.layerwise(0.15, steps=3), compress.layerwise(0.15, interval=2)
    _, after = many.compress(u, many.init(u))
    k = many.init(u).counts.tolist()
    for _ in range(3):
        k, _ = step(list(u.values()), k)
    assert after.counts.tolist() == k
    state = one.init(u)
    seen = [state.counts.tolist()]
    for _ in range(4):
        _, state = one.compress(u, state)
        seen.append(state.counts.tolist())
    assert seen[0] == seen[1] and seen[1] != seen[2] and seen[2] == seen[3]


@pytest.mark.parametrize("workers", ["shared", "local"])
def test_workers(workers):
    dls = compress.layerwise(0.15, workers=workers)
    tx = compress.exchange(dls, axis_name="workers")
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree(seed) for seed in range(4)))
    state = jax.vmap(tx.init)(stack)
    run = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    for _ in range(2):
        _, state = run(stack, state)
    counts = np.asarray(state.compressor.counts)
    assert (counts.sum(axis=1) == selection.count(sum(SIZES), 0.15)).all()
    assert bool((counts == counts[:1]).all()) == (workers == "shared")


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
    _, state = dls.compress(u, dls.init(u))
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
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        compress.layerwise(**{"density": 0.1, **options})
