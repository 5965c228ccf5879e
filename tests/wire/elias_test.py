"""Elias gamma codes of levels: a bit-by-bit oracle, extremes, hostile streams."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import wire
from sparsetrain.wire import elias
from tests.wire import algorithm_1


def bits_of(levels: list[int]) -> str:
    bits = ""
    for level in levels:
        binary = f"{abs(level) + 1:b}"
        bits += "0" * (len(binary) - 1) + binary
        bits += "" if level == 0 else str(int(level < 0))
    return bits


@hypothesis.given(
    levels=st.lists(st.integers(-9, 9) | st.integers(-elias.LARGEST_LEVEL, elias.LARGEST_LEVEL)),
    tail=st.binary(max_size=2),
)
@hypothesis.settings(deadline=None, max_examples=200)
def test_equals_the_oracle(levels: list[int], tail: bytes) -> None:
    bits = bits_of(levels)
    given = np.array(levels, np.int64)
    stream, length = elias.encode_levels(given)
    assert (stream, length) == (algorithm_1.to_bytes(bits), len(bits))
    assert elias.code_bits(given) == length
    largest = max(map(abs, levels), default=0)
    found, used = elias.decode_levels(stream + tail, len(levels), largest)
    assert found.tolist() == levels and used == length


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_long_streams(share: float) -> None:
    generator = np.random.default_rng(0)
    levels = (generator.geometric(share, 60_000) - 1) * generator.choice([-1, 1], 60_000)
    stream, bits = elias.encode_levels(levels.astype(np.int32))
    largest = int(np.abs(levels).max())
    found, used = elias.decode_levels(stream + b"\x5a", 60_000, largest)
    np.testing.assert_array_equal(found, levels)
    assert used == bits
    with pytest.raises(wire.WireError, match=f"beyond {largest - 1}"):
        elias.decode_levels(stream, 60_000, largest - 1)
    with pytest.raises(wire.WireError):
        elias.decode_levels(stream[:-2], 60_000, largest)


def test_zeros_take_one_bit() -> None:
    assert elias.encode_levels(np.zeros(16, np.int8)) == (b"\xff\xff", 16)


def test_any_bytes_give_levels_or_an_error() -> None:
    generator = np.random.default_rng(0)
    decoded = 0
    for _ in range(300):
        count, largest = int(generator.choice([1, 30, 5000])), int(generator.integers(0, 300))
        flags = generator.random(8 * int(generator.integers(0, 4000))) < generator.choice(
            [0.5, 0.9]
        )
        stream = np.packbits(flags).tobytes()
        try:
            levels, used = elias.decode_levels(stream, count, largest)
        except wire.WireError:
            continue
        decoded += 1
        assert len(levels) == count and np.abs(levels).max() <= largest
        # -0 has no code, so a code that is read is the code that would be written.
        assert bits_of(levels.tolist()) == algorithm_1.to_bits(stream)[:used]
    assert decoded > 30


def test_a_run_wider_than_any_level_is_an_error() -> None:
    with pytest.raises(wire.WireError):
        elias.decode_levels(bytes(1000) + b"\x01", 1, 100)
    with pytest.raises(wire.WireError):
        elias.decode_levels(bytes(1000), 1, elias.LARGEST_LEVEL)
    with pytest.raises(wire.WireError, match="ends too early"):
        elias.decode_levels(b"\xff", 9, 1)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="must lie within"):
        elias.encode_levels(np.array([2**31]))
    with pytest.raises(ValueError, match="float32"):
        elias.encode_levels(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="count=-1"):
        elias.decode_levels(b"", -1, 3)
    with pytest.raises(ValueError, match="largest"):
        elias.decode_levels(b"", 1, 2**31 - 1)
