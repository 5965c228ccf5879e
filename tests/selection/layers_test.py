import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import selection
from sparsetrain.selection import layers as layers_module
from sparsetrain.selection.layer_entries import largest
from sparsetrain.selection.layer_ranks import ranked
from sparsetrain.selection.layers import arrange, counts

SIZES = (70, 2100, 1, 33, 300, 1024)
SLOTS = 1500


def leaves_of(seed, kind):
    rng = np.random.default_rng(seed)
    leaves = [10 ** rng.uniform(-3, 3) * rng.standard_normal(size) for size in SIZES]
    if kind == "ties":
        leaves = [np.sign(leaf) * rng.integers(0, 3, leaf.size) for leaf in leaves]
    if kind == "zeros":
        leaves = [0 * leaf for leaf in leaves]
    if kind == "denormal":
        leaves = [1e-42 * rng.integers(0, 50, leaf.size) for leaf in leaves]
    return [leaf.astype(np.float32) for leaf in leaves]


def run(leaves, k, guess):
    layers = arrange(leaves)
    at = ranked(layers, k, guess)
    probes = jnp.tile(at.cut[:, None], (1, 5)) + jnp.arange(5)[None] - 2
    return at, counts(layers, jnp.maximum(probes, 0), k >= 0), largest(layers, k, at, SLOTS)


def patterns(leaf):
    return np.abs(leaf).view(np.int32).astype(np.int64)


@pytest.mark.parametrize("large", [1 << 17, 300], ids=["in rows", "where they lie"])
def test_ranks_counts_and_entries_are_those_of_a_sort(large, monkeypatch):
    monkeypatch.setattr(layers_module, "LARGE", large)
    program = jax.jit(run)
    rng = np.random.default_rng(0)
    top = 0x7F800002
    for kind in ("normal", "ties", "zeros", "denormal"):
        for seed in range(5):
            leaves = leaves_of(seed, kind)
            k = np.array([rng.integers(0, min(size, 300) + 1) for size in SIZES], np.int32)
            k[0] = (0, SIZES[0], 5, 1, 69)[seed]
            falling = [np.sort(patterns(leaf))[::-1] for leaf in leaves]
            guess = [0, *(int(a[min(n, len(a) - 1)]) for a, n in zip(falling, k, strict=True))][1:]
            guess = np.array(guess) * (seed % 2) + rng.integers(0, 1 << 20, len(SIZES)) * (seed > 2)
            at, reached, (values, indices) = program(leaves, k, guess.astype(np.int32))
            low = [a[n - 1] if n else top for a, n in zip(falling, k, strict=True)]
            high = [a[n] if n < len(a) else -1 for a, n in zip(falling, k, strict=True)]
            assert at.least_in.tolist() == low and at.most_out.tolist() == high
            for i, leaf in enumerate(leaves):
                probes = np.maximum(int(at.cut[i]) + np.arange(5) - 2, 0)
                assert reached[i].tolist() == [(patterns(leaf) >= p).sum() for p in probes]
                assert at.reached[i] == (patterns(leaf) >= at.cut[i]).sum()
            ends = np.cumsum([0, *k])
            for leaf, n, first, end in zip(leaves, k, ends, ends[1:], strict=False):
                chosen = np.sort(np.argsort(-patterns(leaf), kind="stable")[:n])
                np.testing.assert_array_equal(indices[first:end], chosen)
                np.testing.assert_array_equal(values[first:end], leaf[chosen])
            assert not values[ends[-1] :].any() and not indices[ends[-1] :].any()
    assert program._cache_size() == 1


def test_leaves_longer_than_a_chunk_of_reading(monkeypatch):
    monkeypatch.setattr(layers_module, "LARGE", 100)
    rng = np.random.default_rng(1)
    leaves = [rng.standard_normal(n).astype(np.float32) for n in (9001, 7, 4500)]
    k = jnp.array([8500, 3, 20])

    def read(leaves, k):
        layers = arrange(leaves)
        return largest(layers, k, ranked(layers, k, jnp.zeros(3, jnp.int32)), 8523)

    values, indices = jax.jit(read)(leaves, k)
    ends = np.cumsum([0, *k.tolist()])
    for leaf, first, end in zip(leaves, ends, ends[1:], strict=False):
        chosen = np.sort(np.argsort(-np.abs(leaf), kind="stable")[: end - first])
        np.testing.assert_array_equal(indices[first:end], chosen)
        np.testing.assert_array_equal(values[first:end], leaf[chosen])


def test_float64_needs_x64():
    assert selection.magnitude_patterns(jnp.ones(1)).dtype == np.int32
    with pytest.raises(ValueError, match="float64"):
        arrange([np.ones(3)])
