"""Golomb codes with any parameter: remainders in truncated binary, closer to the entropy bound."""

import math

import numpy as np

from sparsetrain.numerics import check_density
from sparsetrain.wire import compiled, gaps, golomb
from sparsetrain.wire.bit_fields import Bytes, place, read, windows
from sparsetrain.wire.run_code import find_runs

LARGEST_MODULUS = 1 << 31


def modulus(density: float) -> int:
    """The best parameter for positions that are each taken with this probability.

        m = the least with (1 - p)^m + (1 - p)^(m + 1) <= 1

    Args:
      density: p, 0 < p <= 1.

    Returns:
      m, at least 1; no code that writes one gap after the other is shorter on average.

    Raises:
      ValueError: a density outside (0, 1].

    Reference: Gallager and van Voorhis, Optimal source codes for geometrically distributed integer
    alphabets (1975).

    Example:
      >>> [modulus(p) for p in (0.5, 0.1, 0.01)]
      [1, 7, 69]
    """
    check_density(density)
    if density == 1.0:
        return 1
    return max(1, math.ceil(-math.log(2.0 - density) / math.log1p(-density)))


def expected_bits(density: float, m: int | None = None) -> float:
    """Mean bits of a position, if every entry is taken with this probability.

        c + (1 - p)^(2^c - m) / (1 - (1 - p)^m),    c = ceil(log2 m)

    Args:
      density: p, 0 < p <= 1.
      m: parameter; None for the best.

    Returns:
      Bits a position.

    Raises:
      ValueError: a density outside (0, 1], or m outside 1..2^31.

    Example:
      >>> [round(expected_bits(p), 3) for p in (0.1, 0.01, 0.001)]
      [4.725, 8.105, 11.436]
    """
    check_density(density)
    m, width, spare = _parts(modulus(density) if m is None else m)
    if density == 1.0:
        return width + (0.0 if spare else 1.0)
    log_rest = math.log1p(-density)
    return width - math.exp(spare * log_rest) / math.expm1(m * log_rest)


def encode_positions(positions: np.ndarray, m: int, *, engine: str = "auto") -> tuple[bytes, int]:
    """Rising positions as one stream of bits.

        q, r = divmod(gap, m);    q ones, a zero, then
        r in c - 1 bits where r < 2^c - m, else r + 2^c - m in c bits,    c = ceil(log2 m)

    Args:
      positions: [K] integers, strictly rising, the first at least 0.
      m: parameter, 1..2^31; a power of two gives `golomb.encode_positions`.
      engine: "numpy", "numba", or "auto" for numba where it is installed.

    Returns:
      The stream, filled up with zeros to whole bytes, and its length in bits.

    Raises:
      ValueError: positions that do not rise, m out of range, an unknown engine.

    Example:
      >>> stream, bits = encode_positions(np.array([0, 3, 9]), m=3)
      >>> f"{int.from_bytes(stream):016b}"[:bits]                         # 00 011 1011
      '000111011'
    """
    m, width, spare = _parts(m)
    if spare == 0:
        return golomb.encode_positions(positions, width, engine=engine)
    if compiled.wanted(engine):
        return gaps.compiled_stream(positions, m, width, spare)
    between = gaps.gaps_of(positions)
    quotients = between // m
    fields = between - quotients * m
    is_long = fields >= spare
    widths = is_long + (width - 1)
    ends = np.cumsum(quotients + widths + 1)
    bits = int(ends[-1]) if ends.size else 0
    fields += np.where(is_long, spare, 0)
    # Upside down, a run is made of zeros, which need not be written.
    marks = np.int64(1) << widths
    fields = (~fields & (marks - 1)) | marks
    return gaps.upside_down(place(fields, ends), bits).tobytes(), bits


def decode_positions(
    buffer: Bytes, count: int, m: int, entries: int, *, engine: str = "auto"
) -> np.ndarray:
    """The first `count` positions of a stream.

    Args:
      buffer: the stream; more may follow it.
      count: number of positions, at least 0.
      m: parameter, 1..2^31.
      entries: n; positions lie in 0..n-1.
      engine: "numpy", "numba", or "auto" for numba where it is installed.

    Returns:
      int64 [count], strictly rising, all below `entries`.

    Raises:
      ValueError: m out of range, a negative count, an unknown engine.
      WireError: the stream ends too early, or names a position beyond the last entry.

    Example:
      >>> stream, _ = encode_positions(np.array([0, 3, 9]), m=3)
      >>> decode_positions(stream, count=3, m=3, entries=10).tolist()
      [0, 3, 9]
    """
    m, width, spare = _parts(m)
    longest = (count * (1 + width) + max(0, entries - count) // m + 7) // 8
    stream = gaps.checked_stream(buffer, count, entries, longest)
    if count == 0:
        return np.zeros(0, np.int64)
    if spare == 0:
        return golomb.decode_positions(stream, count, width, entries, engine=engine)
    if compiled.wanted(engine):
        return gaps.compiled_positions(stream, count, m, width, spare, entries)
    # Runs are looked for in the inverted stream, where the short form reads from the top down.
    top = (1 << (width - 1)) - 1
    begins, ends = find_runs(
        ~stream,
        count,
        lambda runs, ends, fields: (top - fields(ends + 1, width - 1) >= spare) + (width - 1),
    )
    bits_of = windows(stream, 64)
    is_long = read(bits_of, ends + 1, width - 1) >= spare
    widths = is_long + (width - 1)
    remainders = read(bits_of, ends + 1, widths) - np.where(is_long, spare, 0)
    gaps.check_last(ends[-1] + 1 + widths[-1], stream)
    return gaps.positions_of(ends - begins, remainders, m, entries)


def _parts(m: int) -> tuple[int, int, int]:
    """m, bits c of a long remainder, number of short ones."""
    if not 1 <= int(m) <= LARGEST_MODULUS:
        raise ValueError(f"m={m}: must lie in 1..2^31; modulus(density) gives it")
    width = (int(m) - 1).bit_length()
    return int(m), width, (1 << width) - int(m)
