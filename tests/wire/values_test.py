"""Floats, signs and levels as bytes."""

import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.wire import WireError, values

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16, np.float64, jnp.float8_e4m3fn]


@pytest.mark.parametrize("dtype", DTYPES)
def test_floats_of_every_dtype(dtype: type) -> None:
    numbers = np.array([[0.0, -0.0, 1.5], [np.nan, -3.0, 0.125]]).astype(dtype)
    sent = values.encode_floats(numbers)
    assert len(sent) == 6 * numbers.dtype.itemsize
    back = values.decode_floats(sent, (2, 3), dtype)
    assert back.dtype == numbers.dtype and back.tobytes() == numbers.tobytes()
    assert back.flags.writeable
    with pytest.raises(WireError, match="hold no 6 numbers"):
        values.decode_floats(sent[:-1], (2, 3), dtype)


def test_byte_order_of_the_sender_does_not_matter() -> None:
    numbers = np.array([1.0, -2.5], np.float32)
    assert values.encode_floats(numbers.astype(">f4")) == values.encode_floats(numbers)


def test_scalars_are_sent_as_another_dtype() -> None:
    mean = np.asarray(1.5, jnp.bfloat16)
    sent = values.encode_floats(mean, np.float32)
    assert sent == np.float32(1.5).tobytes()
    back = values.decode_floats(sent, (), jnp.bfloat16, np.float32)
    assert back.dtype == jnp.bfloat16 and back.shape == () and back == mean
    assert values.encode_floats(np.float64(1e300), np.float32) == np.float32(np.inf).tobytes()


def test_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="int32; only floats"):
        values.encode_floats(np.arange(3, dtype=np.int32))


def test_signs() -> None:
    negative = np.random.default_rng(0).random(77) < 0.5
    sent = values.encode_signs(negative)
    np.testing.assert_array_equal(values.decode_signs(sent, 77), negative)
    with pytest.raises(WireError, match="hold no 77 bits"):
        values.decode_signs(sent[:-1], 77)


@pytest.mark.parametrize(("largest", "width"), [(1, 2), (3, 3), (4, 4), (127, 8), (2**31 - 1, 32)])
def test_levels(largest: int, width: int) -> None:
    levels = np.random.default_rng(0).integers(-largest, largest + 1, 501)
    sent = values.encode_levels(levels, width)
    assert len(sent) == -(-501 * width // 8)
    np.testing.assert_array_equal(values.decode_levels(sent, 501, width, largest), levels)
    with pytest.raises(WireError, match="hold no"):
        values.decode_levels(sent[:-1], 501, width, largest)
    with pytest.raises(ValueError, match="and a sign"):
        values.encode_levels(np.array([1 << (width - 1)]), width)


def test_a_forged_level_is_refused() -> None:
    sent = values.encode_levels(np.array([7]), 4)
    with pytest.raises(WireError, match="beyond 5"):
        values.decode_levels(sent, 1, 4, largest=5)
