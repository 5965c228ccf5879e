"""Positions as Golomb codes of their gaps, with a power of two as parameter (Rice codes)."""

import numpy as np

from sparsetrain.numerics import check_density
from sparsetrain.payload import golomb_parameter
from sparsetrain.wire import compiled, gaps
from sparsetrain.wire.bit_fields import BATCH, Bytes, Stream, read, windows
from sparsetrain.wire.run_code import find_runs

__all__ = [
    "code_bits",
    "decode_positions",
    "encode_positions",
    "expected_bits",
    "golomb_parameter",
    "most_bytes",
]

LARGEST_PARAMETER = 31


def expected_bits(density: float, b: int | None = None) -> float:
    """Mean bits of a position, if every entry is taken with this probability.

        bpos = b + 1 / (1 - (1 - p)^(2^b))

    Args:
      density: p, 0 < p <= 1.
      b: remainder bits; None for the best.

    Returns:
      Bits a position, the bit that ends the run included.

    Raises:
      ValueError: a density outside (0, 1], or b outside 0..31.

    Example:
      >>> [round(expected_bits(p), 3) for p in (0.1, 0.01, 0.001)]
      [4.756, 8.108, 11.495]
    """
    check_density(density)
    b = _checked(golomb_parameter(density) if b is None else b)
    if density == 1.0:
        return b + 1.0
    # expm1 and log1p, because 1 - (1 - p)^(2^b) cancels for small p.
    return b - 1.0 / float(np.expm1(2.0**b * np.log1p(-density)))


def encode_positions(positions: np.ndarray, b: int, *, engine: str = "auto") -> tuple[bytes, int]:
    """Rising positions as one stream of bits.

        gap_i = position_i - position_(i-1) - 1,    position_0 = -1
        code_i = floor(gap_i / 2^b) ones, a zero, gap_i mod 2^b in b bits, most significant first

    Args:
      positions: [K] integers, strictly rising, the first at least 0.
      b: remainder bits, 0..31.
      engine: "numpy", "numba", or "auto" for numba where it is installed.

    Returns:
      The stream, filled up with zeros to whole bytes, and its length in bits.

    Raises:
      ValueError: positions that do not rise, b out of range, an unknown engine.

    Differs from the paper:
      1. Positions count from 0.

    Reference: Sattler et al., Sparse Binary Compression (arXiv 1805.08768), supplement, Algorithm 1.

    Example:
      >>> stream, bits = encode_positions(np.array([0, 3, 9, 15]), b=2)
      >>> f"{int.from_bytes(stream):016b}"[:bits]                         # 000 010 1001 1001
      '00001010011001'
    """
    b = _checked(b)
    if compiled.wanted(engine):
        return gaps.compiled_stream(positions, 1 << b, b, 0)
    given, stream, bits = np.asarray(positions), Stream(), 0
    for start in range(0, len(given), BATCH):
        before = int(given[start - 1]) if start else -1
        fields = gaps.gaps_of(given[start : start + BATCH], before)
        ends = np.cumsum((fields >> b) + (1 + b))
        ends += bits
        bits = int(ends[-1])
        # Upside down, a run is made of zeros, which need not be written.
        np.invert(fields, out=fields)
        fields &= (1 << b) - 1
        fields |= 1 << b
        stream.add(fields, ends)
    return gaps.upside_down(stream.to_bytes(bits), bits).tobytes(), bits


def decode_positions(
    buffer: Bytes, count: int, b: int, entries: int, *, engine: str = "auto"
) -> np.ndarray:
    """The first `count` positions of a stream.

    Args:
      buffer: the stream; more may follow it.
      count: number of positions, at least 0.
      b: remainder bits, 0..31.
      entries: n; positions lie in 0..n-1.
      engine: "numpy", "numba", or "auto" for numba where it is installed.

    Returns:
      int64 [count], strictly rising, all below `entries`.

    Raises:
      ValueError: b out of range, a negative count, an unknown engine.
      WireError: the stream ends too early, or names a position beyond the last entry. Memory and
        time are bounded by the length of the buffer, whatever it holds.

    Example:
      >>> decode_positions(bytes([0b00001010, 0b01100100]), count=4, b=2, entries=16).tolist()
      [0, 3, 9, 15]
    """
    b = _checked(b)
    stream = gaps.checked_stream(buffer, count, entries, most_bytes(count, b, entries))
    if count == 0:
        return np.zeros(0, np.int64)
    if compiled.wanted(engine):
        return gaps.compiled_positions(stream, count, 1 << b, b, 0, entries)
    begins, ends = find_runs(~stream, count, lambda runs, ends, fields: b)
    gaps.check_last(ends[-1] + 1 + b, stream)
    remainders = read(windows(stream, 64), ends + 1, b)
    return gaps.positions_of(ends - begins, remainders, 1 << b, entries)


def code_bits(positions: np.ndarray, b: int) -> int:
    """Length of the code.

        sum_i (floor(gap_i / 2^b) + 1 + b)

    Example:
      >>> code_bits(np.array([0, 3, 9, 15]), b=2)
      14
    """
    return _length(gaps.gaps_of(positions), _checked(b))


def most_bytes(count: int, b: int, entries: int) -> int:
    """The longest that a code of `count` positions below `entries` can be.

    Example:
      >>> most_bytes(4, 2, 16)
      2
    """
    return (count * (1 + b) + (max(0, entries - count) >> b) + 7) // 8


def _length(between: np.ndarray, b: int) -> int:
    return int(np.sum(between >> b)) + between.size * (1 + b)


def _checked(b: int) -> int:
    if not 0 <= int(b) <= LARGEST_PARAMETER:
        raise ValueError(f"b={b}: must lie in 0..{LARGEST_PARAMETER}; golomb_parameter gives it")
    return int(b)
