"""Numbers as bytes: floats of any dtype, signs, levels of a fixed width."""

from typing import Any

import numpy as np

from sparsetrain.wire.bit_fields import Bytes, pack, unpack
from sparsetrain.wire.error import WireError


def encode_floats(values: Any, dtype: Any = None) -> bytes:
    """Little-endian bytes, row by row.

    Args:
      values: array of a floating dtype, bfloat16 and the like included.
      dtype: on the wire; None for the array's own.

    Returns:
      `values.size * itemsize` bytes. Non-finite numbers and the sign of zero are kept.

    Raises:
      ValueError: integers or complex numbers.

    Example:
      >>> encode_floats(np.array([1.0], np.float32)).hex()
      '0000803f'
    """
    given = np.asarray(values)
    # What ml_dtypes adds to NumPy, bfloat16 for one, has no kind "f".
    if given.dtype.kind in "iubcOSUMm":
        raise ValueError(f"values: {given.dtype}; only floats are sent, so convert them first")
    with np.errstate(over="ignore"):  # a double beyond the floats becomes infinite
        cast = given.astype(np.dtype(dtype or given.dtype).newbyteorder("="), copy=False)
    return _little_endian(np.ascontiguousarray(cast)).tobytes()


def decode_floats(
    buffer: Bytes, shape: tuple[int, ...], dtype: Any, sent_as: Any = None
) -> np.ndarray:
    """Inverse of `encode_floats`.

    Args:
      buffer: exactly the bytes of the array.
      shape: of the array.
      dtype: of the result.
      sent_as: dtype on the wire; None for `dtype`.

    Returns:
      A new array.

    Raises:
      WireError: another number of bytes.

    Example:
      >>> decode_floats(bytes.fromhex("0000803f"), (1,), np.float32).tolist()
      [1.0]
    """
    wire = np.dtype(dtype if sent_as is None else sent_as)
    size = int(np.prod(shape, dtype=np.int64))
    if len(buffer) != size * wire.itemsize:
        raise WireError(f"{len(buffer)} bytes hold no {size} numbers of {wire}: the message is cut")
    raw = np.frombuffer(buffer, f"<u{wire.itemsize}").astype(f"=u{wire.itemsize}")
    return raw.view(wire).reshape(shape).astype(dtype, copy=False)


def encode_signs(negative: Any) -> bytes:
    """One bit each, 1 for a negative number, filled up with zeros to whole bytes.

    Example:
      >>> encode_signs(np.array([True, False, True])).hex()
      'a0'
    """
    return np.packbits(np.asarray(negative, bool)).tobytes()


def decode_signs(buffer: Bytes, count: int) -> np.ndarray:
    """Bool [count], True for negative.

    Example:
      >>> decode_signs(b"\\xa0", 3).tolist()
      [True, False, True]
    """
    _check_length(buffer, count)
    return np.unpackbits(np.frombuffer(buffer, np.uint8), count=count).view(bool)


def encode_levels(levels: Any, width: int) -> bytes:
    """Signed levels at a fixed width: a sign bit, 1 for negative, and the magnitude.

    Args:
      levels: [K] integers.
      width: bits of a level with its sign, 2..33.

    Returns:
      ceil(K * width / 8) bytes.

    Raises:
      ValueError: a magnitude that needs more bits.

    Example:
      >>> encode_levels(np.array([1, -2, 0]), width=3).hex()              # 001 110 000
      '3800'
    """
    signed = np.asarray(levels).astype(np.int64)
    magnitudes = np.abs(signed)
    if signed.size and int(magnitudes.max()) >> (width - 1):
        raise ValueError(f"levels: {magnitudes.max()} needs more than {width - 1} bits and a sign")
    return pack(magnitudes | ((signed < 0).astype(np.int64) << (width - 1)), width).tobytes()


def decode_levels(buffer: Bytes, count: int, width: int, largest: int) -> np.ndarray:
    """Inverse of `encode_levels`.

    Args:
      buffer: exactly the bytes of the levels.
      count: K.
      width: bits of a level with its sign.
      largest: s; levels lie in -s..s.

    Returns:
      int64 [K].

    Raises:
      WireError: another number of bytes, or a larger level.

    Example:
      >>> decode_levels(bytes.fromhex("3800"), 3, width=3, largest=3).tolist()
      [1, -2, 0]
    """
    _check_length(buffer, count * width)
    fields = unpack(np.frombuffer(buffer, np.uint8), count, width)
    magnitudes = fields & ((1 << (width - 1)) - 1)
    if count and int(magnitudes.max()) > largest:
        raise WireError(f"a level beyond {largest}: the message is forged")
    return np.where(fields >> (width - 1) == 1, -magnitudes, magnitudes)


def _check_length(buffer: Bytes, bits: int) -> None:
    if 8 * len(buffer) < bits:
        raise WireError(f"{len(buffer)} bytes hold no {bits} bits: the message is cut")


def _little_endian(array: np.ndarray) -> np.ndarray:
    """As unsigned integers, since not every floating dtype knows a byte order."""
    size = array.dtype.itemsize
    return array.view(f"=u{size}").astype(f"<u{size}", copy=False)
