"""Golomb codes with any parameter: a bit-by-bit oracle, powers of two, distance to the entropy."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import wire
from sparsetrain.wire import compiled, golomb, truncated_golomb
from tests.wire import algorithm_1

ENGINES = [
    "numpy",
    pytest.param(
        "numba", marks=pytest.mark.skipif(not compiled.is_installed(), reason="needs numba")
    ),
]


def bits_of(positions: list[int], m: int) -> str:
    """Truncated binary by counting: the first 2^c - m remainders have one bit less."""
    c = (m - 1).bit_length()
    spare = 2**c - m
    bits, before = "", -1
    for position in positions:
        q, r = divmod(position - before - 1, m)
        width, field = (c - 1, r) if r < spare else (c, r + spare)
        bits += "1" * q + "0" + (f"{field:0{width}b}" if width else "")
        before = position
    return bits


@pytest.mark.parametrize("engine", ENGINES)
@hypothesis.given(
    positions=st.lists(st.integers(0, 2000), max_size=40, unique=True).map(sorted),
    m=st.integers(1, 300),
)
@hypothesis.settings(deadline=None, max_examples=150)
def test_equals_the_oracle(positions: list[int], m: int, engine: str) -> None:
    bits = bits_of(positions, m)
    given = np.array(positions, np.int64)
    stream, length = truncated_golomb.encode_positions(given, m, engine=engine)
    assert (stream, length) == (algorithm_1.to_bytes(bits), len(bits))
    decoded = truncated_golomb.decode_positions(stream, len(positions), m, 2001, engine=engine)
    assert decoded.tolist() == positions


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("density", [0.3, 0.01, 0.0003])
def test_long_streams(density: float, engine: str) -> None:
    positions = np.cumsum(np.random.default_rng(0).geometric(density, 20_000)) - 1
    entries = int(positions[-1]) + 1
    for m in (truncated_golomb.modulus(density), 3, 5, 100, 2**31 - 1):
        if entries // m > 10**7:
            continue
        stream, _ = truncated_golomb.encode_positions(positions, m, engine=engine)
        tail = stream + b"\xff"
        found = truncated_golomb.decode_positions(tail, 20_000, m, entries, engine=engine)
        np.testing.assert_array_equal(found, positions)
        for wrong in (stream[:-2], b""):
            with pytest.raises(wire.WireError):
                truncated_golomb.decode_positions(wrong, 20_000, m, entries, engine=engine)
        with pytest.raises(wire.WireError, match="beyond"):
            truncated_golomb.decode_positions(stream, 20_000, m, entries - 1, engine=engine)


def test_powers_of_two_give_the_plain_code() -> None:
    positions = np.cumsum(np.random.default_rng(0).geometric(0.02, 500)) - 1
    for b in (0, 1, 5):
        plain = wire.encode_positions(positions, b)
        assert truncated_golomb.encode_positions(positions, 2**b) == plain
        assert truncated_golomb.expected_bits(0.02, 2**b) == golomb.expected_bits(0.02, b)


def test_the_parameter_is_the_best_one() -> None:
    for density in (0.6, 0.1, 0.037, 0.01, 0.003):
        means = {m: truncated_golomb.expected_bits(density, m) for m in range(1, 600)}
        assert means[truncated_golomb.modulus(density)] == min(means.values())


def test_never_further_from_the_entropy_than_the_plain_code() -> None:
    densities = np.geomspace(1e-4, 0.1, 301).tolist()
    for density in densities:
        mean, plain = truncated_golomb.expected_bits(density), wire.expected_bits(density)
        assert wire.entropy_bits(density) < mean <= plain * (1 + 1e-12)
    excess = [truncated_golomb.expected_bits(p) / wire.entropy_bits(p) - 1 for p in densities]
    assert max(excess) < 0.009


@pytest.mark.parametrize("density", [0.1, 0.013, 0.001])
def test_mean_bits_of_a_sample(density: float) -> None:
    positions = np.cumsum(np.random.default_rng(1).geometric(density, 200_000)) - 1
    _, bits = truncated_golomb.encode_positions(positions, truncated_golomb.modulus(density))
    assert bits / 200_000 == pytest.approx(truncated_golomb.expected_bits(density), rel=2e-3)


def test_arguments_are_checked() -> None:
    for m in (0, 2**31 + 1):
        with pytest.raises(ValueError, match=r"must lie in 1\.\.2\^31"):
            truncated_golomb.encode_positions(np.array([1]), m)
    with pytest.raises(ValueError, match="density"):
        truncated_golomb.modulus(0)
    assert truncated_golomb.modulus(1.0) == 1
    assert [truncated_golomb.expected_bits(1.0, m) for m in (1, 2, 3)] == [1.0, 2.0, 2.0]
