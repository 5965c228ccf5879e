import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress
from sparsetrain.compress.norm_proportional import allocation


def oracle(norms, sizes, k):
    """methods.md 7.9 as it is written there."""
    counts, rest, norm_rest = [0] * len(norms), float(k), float(np.sum(norms))
    for layer in np.argsort(-np.asarray(norms), kind="stable"):
        counts[layer] = min(sizes[layer], max(1, int(rest * norms[layer] / max(norm_rest, 1e-30))))
        rest, norm_rest = max(rest - counts[layer], 0.0), norm_rest - norms[layer]
    return counts


def test_allocation_follows_the_norms():
    rng = np.random.default_rng(0)
    for _ in range(20):
        norms = rng.exponential(1, 6).astype(np.float32)
        sizes = rng.integers(1, 60, 6)
        found = allocation(jnp.asarray(norms), jnp.asarray(sizes, jnp.int32), 50).tolist()
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


def test_density_out_of_range():
    with pytest.raises(ValueError, match="density=2"):
        compress.norm_proportional(2)
