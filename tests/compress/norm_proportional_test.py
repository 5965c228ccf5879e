import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress
from sparsetrain.compress.norm_proportional import allocation, split


def oracle(norms, sizes, k):
    """methods.md 7.9 as it is written there."""
    counts, rest, norm_rest = [0] * len(norms), float(k), float(np.sum(norms))
    for layer in np.argsort(-np.asarray(norms), kind="stable"):
        counts[layer] = min(sizes[layer], max(1, int(rest * norms[layer] / max(norm_rest, 1e-30))))
        rest, norm_rest = max(rest - counts[layer], 0.0), norm_rest - norms[layer]
    return counts


jitted = jax.jit(allocation, static_argnums=2)


def test_allocation_follows_the_norms():
    rng = np.random.default_rng(0)
    for _ in range(20):
        norms = rng.exponential(1, 6).astype(np.float32)
        sizes = rng.integers(1, 60, 6)
        found = jitted(jnp.asarray(norms), jnp.asarray(sizes, jnp.int32), 50).tolist()
        # Float32 may fall on the other side of a whole number.
        np.testing.assert_allclose(found, oracle(norms, sizes, 50), atol=1)


def test_selects_the_largest_of_every_tensor_and_may_exceed_k():
    rng = np.random.default_rng(1)
    u = {
        name: jnp.asarray(scale * rng.standard_normal(size), jnp.float32)
        for name, scale, size in (("a", 10, 80), ("b", 0.1, 50), ("c", 0.1, 40))
    }
    compressor = compress.norm_proportional(0.05)
    payload, _ = jax.jit(compressor.compress)(u, compressor.init(u))
    counts = payload.counts.tolist()
    assert counts[0] > counts[1] >= 1 and sum(counts) <= payload.values.shape[0]
    for leaf, sent, n in zip(u.values(), compressor.decompress(payload), counts, strict=True):
        chosen = np.sort(np.argsort(-np.abs(leaf), kind="stable")[:n])
        assert np.flatnonzero(sent).tolist() == chosen.tolist()


def test_small_norms_do_not_drown_and_the_bound_holds():
    # The first tensor takes all it has; 1e8 + 1 + 1 is 1e8 in float32.
    found = jitted(jnp.array([1e8, 1.0, 1.0]), jnp.array([2, 90, 90], jnp.int32), 20)
    assert found.tolist() == [2, 9, 9]
    rng = np.random.default_rng(2)
    for _ in range(50):
        norms = jnp.asarray(10 ** rng.uniform(-9, 9, 7), jnp.float32)
        sizes = rng.integers(1, 30, 7)
        given = np.asarray(jitted(norms, jnp.asarray(sizes, jnp.int32), 25))
        assert (given >= 1).all() and (given <= sizes).all() and given.sum() <= 25 + 7
    assert jitted(jnp.zeros(3), jnp.array([5, 5, 5], jnp.int32), 6).tolist() == [1, 1, 1]


def test_tensors_are_cut_evenly_where_they_are_large():
    sizes = [100, 3, 0, 26, 24]
    found = split(sizes, 4)
    assert [tensor for tensor, _, _ in found] == [0, 0, 0, 0, 1, 3, 4]
    assert [b - a for _, a, b in found] == [25, 25, 25, 25, 3, 26, 24]
    assert split(sizes, 1) == [(0, 0, 100), (1, 0, 3), (3, 0, 26), (4, 0, 24)]
    assert split([2], 5) == [(0, 0, 1), (0, 1, 2)]


def test_parts_have_shares_of_their_own():
    rng = np.random.default_rng(3)
    large = rng.standard_normal(60) * np.repeat([10.0, 0.1, 1.0], 20)
    u = [jnp.asarray(large.reshape(6, 10), jnp.float32), jnp.ones(()), jnp.zeros((0,)), jnp.ones(5)]
    compressor = compress.norm_proportional(0.3, parts=3)
    payload, _ = jax.jit(compressor.compress)(u, compressor.init(u))
    flat = np.asarray(u[0]).ravel()
    norms = [*(np.linalg.norm(part) for part in flat.reshape(3, 20)), 1.0, 5**0.5]
    given = oracle(norms, [20, 20, 20, 1, 5], int(0.3 * 66))
    assert payload.counts.tolist() == [sum(given[:3]), given[3], 0, given[4]]
    assert payload.values.shape[0] == int(0.3 * 66) + 5
    expected = [
        20 * i + j
        for i in range(3)
        for j in np.argsort(-np.abs(flat[20 * i : 20 * i + 20]))[: given[i]]
    ]
    sent = compressor.decompress(payload)
    assert np.flatnonzero(sent[0]).tolist() == sorted(expected)
    for got, leaf in zip(sent, u, strict=True):
        np.testing.assert_array_equal(np.where(got != 0, leaf, 0), got)


def test_extremes():
    u = {"a": jnp.arange(6.0), "b": jnp.ones(2)}
    everything, one = compress.norm_proportional(1.0), compress.norm_proportional(1e-6)
    sent = everything.decompress(everything.compress(u, everything.init(u))[0])
    assert [leaf.tolist() for leaf in sent] == [u["a"].tolist(), u["b"].tolist()]
    assert one.compress(u, one.init(u))[0].counts.tolist() == [1, 1]
    payload, _ = one.compress({}, one.init({}))
    assert payload.values.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"density": 2}, "density=2"), ({"density": 0.1, "parts": 0}, "parts=0")],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        compress.norm_proportional(**options)
