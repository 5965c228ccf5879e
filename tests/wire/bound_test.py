"""Bounds against exact counts."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import wire
from sparsetrain.payload import Dense, Sparse, SparseTree


@pytest.mark.parametrize(
    ("density", "bits"),
    [(0.25, 3.245), (0.1, 4.690), (0.05, 5.728), (0.01, 8.079), (0.001, 11.408), (0.0001, 14.730)],
)
def test_entropy_of_the_table(density: float, bits: float) -> None:
    assert wire.entropy_bits(density) == pytest.approx(bits, abs=5.1e-4)


def test_entropy_at_the_ends() -> None:
    assert wire.entropy_bits(1.0) == 0.0 and wire.entropy_bits(0.5) == pytest.approx(2.0)
    assert math.isfinite(wire.entropy_bits(1e-12))
    with pytest.raises(ValueError, match="density"):
        wire.entropy_bits(0.0)


@pytest.mark.parametrize(("entries", "count"), [(1, 0), (1, 1), (10, 3), (1000, 400), (5000, 1)])
def test_ways_to_choose(entries: int, count: int) -> None:
    exact = math.log2(math.comb(entries, count))
    assert wire.combinatorial_bits(entries, count) == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_the_combinatorial_bound_lies_below_the_entropy_and_near_it() -> None:
    entries, count = 25_600_000, 256_000
    ratio = wire.combinatorial_bits(entries, count) / (count * wire.entropy_bits(count / entries))
    assert 0.9999 < ratio < 1
    with pytest.raises(ValueError, match=r"count=3: must lie in 0\.\.2"):
        wire.combinatorial_bits(2, 3)


def test_payloads() -> None:
    positions = np.flatnonzero(np.random.default_rng(0).random(20_000) < 0.05).astype(np.int32)
    count = len(positions)
    sparse = Sparse(positions, np.int32(count), (200, 100), None, values=jnp.ones(count))
    bound = wire.payload_bound(sparse)
    assert bound == 32 * count + wire.combinatorial_bits(20_000, count)
    assert bound < int(sparse.payload_bits()) < 1.01 * bound
    tree = SparseTree(jnp.ones(2), jnp.array([1, 0]), jnp.array([1, 1]), ((3,), (2,)), None)
    assert wire.payload_bound(tree) == pytest.approx(64 + math.log2(10))
    assert wire.payload_bound(Dense(jnp.ones(3))) == 96
    with pytest.raises(ValueError, match="is no payload"):
        wire.payload_bound(jnp.ones(3))
