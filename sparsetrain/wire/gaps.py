"""Between positions and the gaps that a Golomb code is made of; what cannot be a position is refused."""

import numpy as np

from sparsetrain.wire import compiled
from sparsetrain.wire.bit_fields import Bytes
from sparsetrain.wire.error import WireError

_NOT_RISING = "positions: must be at least 0 and strictly rising; sort them first"
_CUT = "the stream of positions ends too early: the message was cut or forged"


def gaps_of(positions: np.ndarray, before: int = -1) -> np.ndarray:
    """Entries left out in front of each position.

    Args:
      positions: [K] integers.
      before: the position in front of the first.

    Returns:
      int64 [K].

    Raises:
      ValueError: positions that do not rise, or are not integers.

    Example:
      >>> gaps_of(np.array([0, 3, 9])).tolist()
      [0, 2, 5]
    """
    given = np.asarray(positions)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(
            f"positions: {given.dtype} of shape {given.shape}; give one axis of integers"
        )
    gaps = np.empty(given.size, np.int64)
    if given.size:
        gaps[0] = int(given[0]) - before - 1
        # The cast is part of the subtraction: unsigned numbers must not wrap around.
        np.subtract(given[1:], given[:-1], out=gaps[1:], dtype=np.int64, casting="unsafe")
        gaps[1:] -= 1
        if gaps.min() < 0:
            raise ValueError(_NOT_RISING)
    return gaps


def checked_stream(buffer: Bytes, count: int, entries: int, longest: int) -> np.ndarray:
    """The part of a buffer in which the codes of so many positions can lie.

    Args:
      buffer: any bytes.
      count: positions to be read.
      entries: n.
      longest: bytes that the codes may take.

    Returns:
      uint8 [at most `longest`], a view.

    Raises:
      ValueError: a negative count.
      WireError: more positions than entries, or than bits.
    """
    if count < 0:
        raise ValueError(f"count={count}: must be at least 0")
    if count > entries:
        raise WireError(f"{count} positions among {entries} entries: the message is forged")
    stream = np.frombuffer(buffer, np.uint8)[:longest]
    if count > 8 * stream.size:
        raise WireError(_CUT)
    return stream


def compiled_stream(
    positions: np.ndarray, modulus: int, width: int, spare: int
) -> tuple[bytes, int]:
    """Encoding by numba: the stream and its bits.

    Raises:
      ValueError: as `gaps_of`.
    """
    given = np.asarray(positions)
    if given.size == 0 or given.dtype.kind not in "iu" or given.ndim != 1:
        gaps_of(given)
        return b"", 0
    rising = np.ascontiguousarray(given, np.int64)
    # What does not rise may need more room, so its encoder stops at the first fall.
    most = given.size * (1 + width) + max(0, int(rising[-1])) // modulus
    out = np.empty(-(-most // 8) + 8, np.uint8)
    bits = compiled.kernels().encode(rising, modulus, width, spare, out)
    if bits == compiled.NOT_RISING:
        raise ValueError(_NOT_RISING)
    return out[: -(-bits // 8)].tobytes(), bits


def compiled_positions(
    stream: np.ndarray, count: int, modulus: int, width: int, spare: int, entries: int
) -> np.ndarray:
    """Decoding by numba.

    Raises:
      WireError: the stream ends too early, or names a position beyond the last entry.
    """
    out = np.empty(count, np.int64)
    leading = compiled.leading_ones()
    bits = compiled.kernels().decode(stream, modulus, width, spare, entries, leading, out)
    if bits == compiled.ENDED_EARLY:
        raise WireError(_CUT)
    if bits == compiled.BEYOND:
        raise WireError(_beyond(entries))
    return out


def positions_of(
    quotients: np.ndarray, remainders: np.ndarray, modulus: int, entries: int
) -> np.ndarray:
    """Positions from gaps = quotient * modulus + remainder.

    Args:
      quotients: int64 [K], K >= 1.
      remainders: int64 [K], below `modulus`.
      modulus: parameter of the code.
      entries: n.

    Returns:
      int64 [K].

    Raises:
      WireError: a position lies beyond the last entry.

    Example:
      >>> positions_of(np.array([0, 1]), np.array([1, 0]), modulus=4, entries=16).tolist()
      [1, 6]
    """
    # Checked in quotients, whose sum cannot overflow: there are no more than bits.
    if int(quotients.sum()) > entries // modulus:
        raise WireError(_beyond(entries))
    positions = np.cumsum(quotients * modulus + remainders + 1)
    positions -= 1
    if int(positions[-1]) >= entries:
        raise WireError(_beyond(entries))
    return positions


def check_last(end: np.integer | int, stream: np.ndarray) -> None:
    """Refuses a last code whose tail is cut off; `end` is the bit behind it."""
    if int(end) > 8 * stream.size:
        raise WireError(_CUT)


def upside_down(stream: np.ndarray, bits: int) -> np.ndarray:
    """Every bit inverted in place, but for those that fill up the last byte.

    Example:
      >>> np.unpackbits(upside_down(np.array([0b10100000], np.uint8), 3)).tolist()
      [0, 1, 0, 0, 0, 0, 0, 0]
    """
    np.invert(stream, out=stream)
    if bits % 8:
        stream[-1] &= (0xFF << (-bits % 8)) & 0xFF
    return stream


def _beyond(entries: int) -> str:
    return f"a position beyond the last of {entries} entries: the message is forged"
