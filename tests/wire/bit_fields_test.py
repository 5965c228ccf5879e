"""Fields of bits against strings of 0s and 1s."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain.wire import bit_fields
from tests.wire import algorithm_1

fields = st.lists(
    st.integers(0, 33).flatmap(
        lambda width: st.tuples(st.integers(0, 2**width - 1), st.just(width), st.integers(0, 70))
    ),
    max_size=40,
)


@hypothesis.given(fields)
@hypothesis.settings(deadline=None, max_examples=200)
def test_fields_of_any_width_between_zeros(given: list[tuple[int, int, int]]) -> None:
    bits, ends = "", []
    for value, width, space in given:
        bits += "0" * (space + (not ends)) + (f"{value:0{width}b}" if width else "")
        ends.append(len(bits))
    values, widths = (np.array([each[i] for each in given], np.int64) for i in (0, 1))
    stream = bit_fields.place(values, np.array(ends, np.int64))
    assert stream.tobytes() == algorithm_1.to_bytes(bits)
    starts = np.array(ends, np.int64) - widths
    found = bit_fields.read(bit_fields.windows(stream, 64), starts, widths)
    np.testing.assert_array_equal(found, values)


def test_more_fields_than_are_handled_at_a_time() -> None:
    generator = np.random.default_rng(0)
    widths = generator.integers(1, 34, 40_000)
    values = generator.integers(0, 2**widths)
    ends = np.cumsum(widths)
    stream = bit_fields.place(values, ends)
    found = bit_fields.read(bit_fields.windows(stream, 64), ends - widths, widths)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("width", [0, 1, 7, 8, 9, 31, 32, 33])
def test_pack_and_unpack(width: int) -> None:
    values = np.random.default_rng(width).integers(0, 2**width, 1001)
    stream = bit_fields.pack(values, width)
    assert stream.size == -(-1001 * width // 8)
    np.testing.assert_array_equal(bit_fields.unpack(stream, 1001, width), values)
    assert bit_fields.padding_is_zero(stream, 1001 * width)


def test_one_bit_is_packbits() -> None:
    flags = np.random.default_rng(0).integers(0, 2, 77)
    np.testing.assert_array_equal(bit_fields.pack(flags, 1), np.packbits(flags.astype(bool)))
