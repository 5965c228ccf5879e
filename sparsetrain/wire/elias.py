"""Elias gamma codes of signed levels: short where most levels are zero or small."""

import numpy as np

from sparsetrain.wire.bit_fields import Bytes, place, read, windows
from sparsetrain.wire.error import WireError
from sparsetrain.wire.run_code import find_runs

LARGEST_LEVEL = 2**31 - 2


def encode_levels(levels: np.ndarray) -> tuple[bytes, int]:
    """Signed levels as one stream of bits.

        x = |level| + 1;    floor(log2 x) zeros, x from its highest one on, then, unless the level
        is 0, a 1 for a negative one and a 0 for a positive one

    Args:
      levels: [K] integers, |level| <= 2^31 - 2.

    Returns:
      The stream, filled up with zeros to whole bytes, and its length in bits.

    Raises:
      ValueError: no integers, or a level out of range.

    Differs from the paper:
      1. QSGD writes Elias omega codes of levels and of the distances between them; gamma codes are
         shorter for the few small levels that are usual.

    Reference: Elias, Universal codeword sets (1975); Alistarh et al., QSGD (arXiv 1610.02132).

    Example:
      >>> stream, bits = encode_levels(np.array([0, 1, -2]))              # 1 0100 0111
      >>> f"{int.from_bytes(stream):016b}"[:bits]
      '101000111'
    """
    signed, run = _runs(levels)
    ends = np.cumsum(2 * run + 1 + (run > 0))
    bits = int(ends[-1]) if ends.size else 0
    has_sign = run > 0
    fields = ((np.abs(signed) + 1) << has_sign) | (signed < 0)
    return place(fields, ends).tobytes(), bits


def code_bits(levels: np.ndarray) -> int:
    """Length of the code.

        sum_i (2 floor(log2(|level_i| + 1)) + 1 + [level_i != 0])

    Example:
      >>> code_bits(np.array([0, 1, -2]))
      9
    """
    _, run = _runs(levels)
    return int(np.sum(2 * run + 1 + (run > 0)))


def decode_levels(buffer: Bytes, count: int, largest: int) -> tuple[np.ndarray, int]:
    """The first `count` levels of a stream.

    Args:
      buffer: the stream; more may follow it.
      count: number of levels, at least 0.
      largest: s; levels lie in -s..s, s <= 2^31 - 2.

    Returns:
      int64 [count], and the bits that were read.

    Raises:
      ValueError: a negative count, s out of range.
      WireError: the stream ends too early, or holds a larger level. Memory and time are bounded by
        the length of the buffer, whatever it holds.

    Example:
      >>> levels, bits = decode_levels(bytes([0b10100011, 0b10000000]), count=3, largest=2)
      >>> levels.tolist(), bits
      ([0, 1, -2], 9)
    """
    if count < 0:
        raise ValueError(f"count={count}: must be at least 0")
    if not 0 <= largest <= LARGEST_LEVEL:
        raise ValueError(f"largest={largest}: must lie in 0..2^31-2")
    if count == 0:
        return np.zeros(0, np.int64), 0
    longest = (count * 2 * (largest + 1).bit_length() + 7) // 8
    stream = np.frombuffer(buffer, np.uint8)[:longest]
    if count > 8 * stream.size:
        raise WireError("the stream of levels ends too early: the message was cut or forged")
    begins, ends = find_runs(stream, count, lambda runs, ends, fields: runs + (runs > 0))
    run = ends - begins
    has_sign = run > 0
    bits = int(ends[-1] + 1 + run[-1] + has_sign[-1])
    # Before fields are read: a wider one than a level can have would not fit into a number.
    if int(run.max()) >= (largest + 1).bit_length():
        raise WireError(f"a level beyond {largest}: the message is forged")
    if bits > 8 * stream.size:
        raise WireError("the last level is cut off: the message was cut or forged")
    fields = read(windows(stream, 64), ends, run + 1 + has_sign)
    magnitudes = (fields >> has_sign) - 1
    if int(magnitudes.max()) > largest:
        raise WireError(f"a level beyond {largest}: the message is forged")
    return np.where(has_sign & (fields & 1 == 1), -magnitudes, magnitudes), bits


def _runs(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels as int64, and floor(log2(|level| + 1))."""
    given = np.asarray(levels)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"levels: {given.dtype} of shape {given.shape}; give one axis of integers")
    signed = given.astype(np.int64)
    if (
        signed.size
        and not -LARGEST_LEVEL <= int(signed.min()) <= int(signed.max()) <= LARGEST_LEVEL
    ):
        raise ValueError(f"levels: {signed.min()}..{signed.max()}; must lie within +-(2^31 - 2)")
    # The exponent of a double is exact for integers of this size.
    _, exponents = np.frexp((np.abs(signed) + 1).astype(np.float64))
    return signed, exponents.astype(np.int64) - 1
