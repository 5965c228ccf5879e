"""Golomb codes of positions: the paper's Algorithm 1, golden strings, exact lengths, hostile streams."""

import math
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import wire
from sparsetrain.wire import compiled, golomb
from tests.wire import algorithm_1

ENGINES = [
    "numpy",
    pytest.param(
        "numba", marks=pytest.mark.skipif(not compiled.is_installed(), reason="needs numba")
    ),
]
position_lists = st.lists(st.integers(0, 3000), max_size=60, unique=True).map(sorted)


def sample(density: float, count: int, seed: int = 0) -> np.ndarray:
    """Positions of which every entry is one with the same probability."""
    return np.cumsum(np.random.default_rng(seed).geometric(density, count)) - 1


# methods.md 3.10.
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("positions", "b", "bits"),
    [
        ([0, 3, 9, 15], 2, "000 010 1001 1001"),
        ([0], 3, "0000"),
        ([15], 2, "111011"),
        ([2, 4], 0, "110 10"),
        ([], 5, ""),
        ([0, 1, 2], 0, "0 0 0"),
    ],
)
def test_golden_strings(positions: list[int], b: int, bits: str, engine: str) -> None:
    bits = bits.replace(" ", "")
    assert algorithm_1.encode(positions, b) == bits
    stream, length = wire.encode_positions(np.array(positions, np.int64), b, engine=engine)
    assert (stream, length) == (algorithm_1.to_bytes(bits), len(bits))
    decoded = wire.decode_positions(stream, len(positions), b, entries=16, engine=engine)
    assert decoded.tolist() == positions and decoded.dtype == np.int64


@pytest.mark.parametrize(
    ("density", "b", "bits"),
    [
        (0.25, 1, 3.286),
        (0.1, 3, 4.756),
        (0.05, 4, 5.786),
        (0.01, 6, 8.108),
        (0.0025, 8, 10.114),
        (0.001, 9, 11.495),
        (0.0001, 13, 14.788),
    ],
)
def test_parameter_and_mean_bits_of_the_table(density: float, b: int, bits: float) -> None:
    assert wire.golomb_parameter(density) == b
    assert wire.expected_bits(density) == pytest.approx(bits, abs=6e-4)
    means = [golomb.expected_bits(density, other) for other in range(20)]
    assert means[b] == min(means)


def test_a_dense_set_takes_one_bit_a_position() -> None:
    assert [wire.golomb_parameter(p) for p in (0.7, 1.0)] == [0, 0]
    assert wire.expected_bits(1.0) == 1.0
    assert wire.encode_positions(np.arange(16), 0) == (bytes(2), 16)


@pytest.mark.parametrize("engine", ENGINES)
@hypothesis.given(positions=position_lists, b=st.integers(0, 12), tail=st.binary(max_size=3))
@hypothesis.settings(deadline=None, max_examples=150)
def test_equals_algorithm_1(positions: list[int], b: int, tail: bytes, engine: str) -> None:
    bits = algorithm_1.encode(positions, b)
    stream, length = wire.encode_positions(np.array(positions, np.int64), b, engine=engine)
    assert stream == algorithm_1.to_bytes(bits)
    assert length == len(bits) == golomb.code_bits(np.array(positions, np.int64), b)
    assert length == sum(
        (now - before - 1) // 2**b + 1 + b
        for before, now in zip([-1, *positions], positions, strict=False)
    )
    assert len(stream) <= golomb.most_bytes(len(positions), b, 3001)
    decoded = wire.decode_positions(stream + tail, len(positions), b, 3001, engine=engine)
    assert decoded.tolist() == positions


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_all_integers_give_one_stream(dtype: type) -> None:
    positions = sample(0.01, 500)
    stream = wire.encode_positions(positions, 6)
    assert wire.encode_positions(positions.astype(dtype), 6) == stream


# Above 4096 positions NumPy walks in lanes.
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("density", [0.9, 0.4, 0.1, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("count", [4096, 4097, 50_000])
def test_long_streams(count: int, density: float, engine: str) -> None:
    positions = sample(density, count)
    entries = int(positions[-1]) + 1
    for b in {0, wire.golomb_parameter(density), 7, 31}:
        if entries >> b > 10**7:
            continue
        stream, bits = wire.encode_positions(positions, b, engine=engine)
        assert bits == golomb.code_bits(positions, b)
        if engine == "numba":
            assert wire.encode_positions(positions, b, engine="numpy") == (stream, bits)
        decoded = wire.decode_positions(stream + b"\xff\x00", count, b, entries, engine=engine)
        np.testing.assert_array_equal(decoded, positions)


@pytest.mark.parametrize("gap", [0, 1, 35, 63, 99, 100, 127, 1000])
def test_regular_streams_in_which_a_lane_never_finds_its_codes(gap: int) -> None:
    positions = np.arange(20_000) * (gap + 1) + gap
    stream, _ = wire.encode_positions(positions, 6, engine="numpy")
    decoded = wire.decode_positions(stream, 20_000, 6, int(positions[-1]) + 1, engine="numpy")
    np.testing.assert_array_equal(decoded, positions)


def test_long_runs_among_short_codes() -> None:
    gaps = np.ones(20_000, np.int64)
    gaps[[3, 5_000, 5_001, 12_000, 19_999]] = [200_000, 24, 25, 90, 70_000]
    positions = np.cumsum(gaps) - 1
    stream, _ = wire.encode_positions(positions, 0, engine="numpy")
    decoded = wire.decode_positions(stream, 20_000, 0, int(positions[-1]) + 1, engine="numpy")
    np.testing.assert_array_equal(decoded, positions)


@pytest.mark.parametrize(("density", "most"), [(0.01, 0.008), (0.001, 0.008), (0.0001, 0.008)])
def test_mean_bits_near_the_entropy(density: float, most: float) -> None:
    positions = sample(density, 200_000)
    _, bits = wire.encode_positions(positions, wire.golomb_parameter(density))
    mean, bound = bits / len(positions), wire.entropy_bits(density)
    assert mean == pytest.approx(wire.expected_bits(density), rel=2e-3)
    assert bound * 0.999 < mean < bound * (1 + most)


def test_mean_bits_within_2_percent_of_the_entropy_everywhere() -> None:
    densities = np.geomspace(1e-4, 0.1, 301).tolist()
    excess = [wire.expected_bits(p) / wire.entropy_bits(p) - 1 for p in densities]
    assert min(excess) > 0 and max(excess) < 0.022
    for density in densities[::60]:
        positions = sample(density, 50_000)
        _, bits = wire.encode_positions(positions, wire.golomb_parameter(density))
        assert bits / len(positions) == pytest.approx(wire.expected_bits(density), rel=4e-3)
        assert bits / len(positions) < 1.022 * wire.entropy_bits(density)


def test_arguments_are_checked() -> None:
    for wrong in ([3, 3], [3, 2], [-1, 2]):
        with pytest.raises(ValueError, match="strictly rising; sort them first"):
            wire.encode_positions(np.array(wrong), 2)
    with pytest.raises(ValueError, match="strictly rising"):
        wire.encode_positions(np.array([5, 2**63 + 6], np.uint64), 2)
    with pytest.raises(ValueError, match="float64 of shape"):
        wire.encode_positions(np.array([0.5]), 2)
    for b in (-1, 32):
        with pytest.raises(ValueError, match=f"b={b}: must lie in 0..31"):
            wire.encode_positions(np.array([1]), b)
        with pytest.raises(ValueError, match=f"b={b}"):
            wire.decode_positions(b"", 0, b, 5)
    with pytest.raises(ValueError, match="count=-1"):
        wire.decode_positions(b"", -1, 2, 5)
    with pytest.raises(ValueError, match="engine='fortran'"):
        wire.encode_positions(np.array([1]), 2, engine="fortran")
    with pytest.raises(ValueError, match="density"):
        wire.expected_bits(0.0)


def test_numba_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "is_installed", lambda: False)
    with pytest.raises(ValueError, match="fast-wire"):
        wire.encode_positions(np.array([1]), 2, engine="numba")
    assert wire.encode_positions(np.array([1]), 0) == (b"\x80", 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [3, 5000])
def test_cut_and_forged_streams(count: int, engine: str) -> None:
    positions = sample(0.01, count)
    entries = int(positions[-1]) + 1
    stream, _ = wire.encode_positions(positions, 6, engine=engine)
    for wrong in (stream[:-1], stream[: len(stream) // 2], b""):
        with pytest.raises(wire.WireError, match=r"early|cut"):
            wire.decode_positions(wrong, count, 6, entries, engine=engine)
    with pytest.raises(wire.WireError, match="beyond the last"):
        wire.decode_positions(stream, count, 6, entries - 1, engine=engine)
    with pytest.raises(wire.WireError, match="positions among"):
        wire.decode_positions(stream, entries + 1, 6, entries, engine=engine)
    with pytest.raises(wire.WireError):
        wire.decode_positions(b"\xff" * 50_000, count, 6, entries, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_any_bytes_give_rising_positions_or_an_error(engine: str) -> None:
    generator = np.random.default_rng(0)
    outcomes = []
    for _ in range(400):
        b, entries = int(generator.integers(0, 9)), int(generator.integers(1, 200_000))
        count = int(generator.choice([0, 1, 40, 4500, 6000]))
        share = generator.choice([0.1, 0.5, 0.9])
        flags = generator.random(8 * int(generator.integers(0, 9000))) < share
        stream = np.packbits(flags).tobytes()
        try:
            found = wire.decode_positions(stream, count, b, entries, engine=engine)
        except wire.WireError:
            outcomes.append(False)
            continue
        outcomes.append(True)
        assert len(found) == count
        assert count == 0 or (found[0] >= 0 and found[-1] < entries and (np.diff(found) > 0).all())
        bits = algorithm_1.to_bits(stream)
        assert found.tolist() == algorithm_1.decode(bits, b, count)
    assert 100 < sum(outcomes) < 350


@pytest.mark.parametrize("count", [4_097, 50_000, 1_000_000])
def test_a_forged_stream_cannot_keep_the_receiver_busy(count: int) -> None:
    entries = 8_000_000
    start = time.process_time()
    for stream in (bytes(entries // 8), b"\x55" * (entries // 8), b"\xff\xfe" * (entries // 16)):
        try:
            wire.decode_positions(stream, count, 0, entries, engine="numpy")
        except wire.WireError:
            continue
    assert time.process_time() - start < 20  # a walk bit by bit in each of the lanes takes minutes


def test_expected_bits_does_not_cancel_at_tiny_densities() -> None:
    density = 1e-9
    b = wire.golomb_parameter(density)
    assert b == 29
    ratio = wire.expected_bits(density) / wire.entropy_bits(density)
    assert math.isfinite(ratio) and 1 < ratio < 1.01
