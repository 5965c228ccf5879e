"""Golomb codes by numba, where it is installed: the same bits as the NumPy code, several times faster."""

import functools
import importlib.util
from typing import Any, NamedTuple

import numpy as np

ENGINES = ("auto", "numpy", "numba")
# What is answered instead of a number of bits.
ENDED_EARLY = -1
NOT_RISING = -1
BEYOND = -2


def is_installed() -> bool:
    """Whether numba can be imported; it is not imported yet."""
    return importlib.util.find_spec("numba") is not None


def wanted(engine: str) -> bool:
    """Whether numba does the work.

    Raises:
      ValueError: an unknown engine, or numba is asked for and missing.

    Example:
      >>> wanted("numpy")
      False
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r}: choose one of {ENGINES}")
    if engine == "numba" and not is_installed():
        raise ValueError("engine='numba': pip install 'sparsetrain[fast-wire]', or leave it 'auto'")
    return engine == "numba" or (engine == "auto" and is_installed())


class Kernels(NamedTuple):
    """Compiled functions.

    Attributes:
      encode: (positions int64, modulus, width, spare, out uint8) -> bits written, or `NOT_RISING`.
      decode: (buffer, modulus, width, spare, entries, leading, out int64) -> bits read, or
        `ENDED_EARLY`, or `BEYOND`. `leading` is `leading_ones()`.
    """

    encode: Any
    decode: Any


@functools.cache
def leading_ones() -> np.ndarray:
    """uint8 [256]: ones at the head of every byte."""
    flags = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return np.where(flags.all(1), 8, flags.argmin(1)).astype(np.uint8)


@functools.cache
def kernels() -> Kernels:
    """Compiles once a process; numba keeps the machine code on disk where it may write."""
    import numba

    def compiled(function: Any, signature: Any) -> Any:
        try:
            return numba.njit(signature, cache=True)(function)
        except RuntimeError:  # there is no folder that it may write to
            return numba.njit(signature)(function)

    number, numbers = numba.int64, numba.int64[::1]
    code, stream = (number, number, number), numba.uint8[::1]
    message = numba.types.Array(numba.uint8, 1, "C", readonly=True)
    return Kernels(
        compiled(_encode, number(numbers, *code, stream)),
        compiled(_decode, number(message, *code, number, stream, numbers)),
    )


def _encode(positions, modulus, width, spare, out):  # type: ignore[no-untyped-def]
    # The lowest `held` bits of `window` are yet to be written; fewer than 8 after each code.
    window, held, at, previous = np.uint64(0), 0, 0, -1
    last = positions[-1]
    for position in positions:
        gap = position - previous - 1
        if gap < 0 or position > last:
            return -1
        previous = position
        quotient = gap // modulus if spare else gap >> width  # a division takes its time
        rest = gap - quotient * modulus
        length = width + 1  # the zero that ends the run is the head of the remainder
        if rest < spare:
            length -= 1
        else:
            rest += spare
        while quotient > 0:
            step = min(quotient, 48)
            window = (window << np.uint64(step)) | np.uint64((1 << step) - 1)
            quotient -= step
            held += step
            while held >= 8:
                held -= 8
                out[at] = (window >> np.uint64(held)) & np.uint64(0xFF)
                at += 1
        window = (window << np.uint64(length)) | np.uint64(rest)
        held += length
        while held >= 8:
            held -= 8
            out[at] = (window >> np.uint64(held)) & np.uint64(0xFF)
            at += 1
    if held > 0:
        out[at] = (window << np.uint64(8 - held)) & np.uint64(0xFF)
    return 8 * at + held


def _decode(buffer, modulus, width, spare, entries, leading, out):  # type: ignore[no-untyped-def]
    window = np.uint64(0)  # the next `held` bits, left-aligned
    held, at, position = 0, 0, -1
    used = 0
    for number in range(out.size):
        while True:
            while held <= 56 and at < buffer.size:
                window |= np.uint64(buffer[at]) << np.uint64(56 - held)
                held += 8
                at += 1
            ones = int(leading[window >> np.uint64(56)])  # behind `held` there are zeros
            position += ones * modulus
            if position >= entries:
                return -2
            window <<= np.uint64(ones)
            held -= ones
            used += ones
            if ones < 8:
                break
        length = width + 1  # with the zero that ends the run
        while held <= 56 and at < buffer.size:
            window |= np.uint64(buffer[at]) << np.uint64(56 - held)
            held += 8
            at += 1
        if spare > 0:
            rest = np.int64(window >> np.uint64(64 - width))
            if rest < spare:
                length -= 1
            else:
                rest = np.int64(window >> np.uint64(63 - width)) - spare
        else:
            rest = np.int64(window >> np.uint64(63 - width))
        if held < length:
            return -1
        window <<= np.uint64(length)
        held -= length
        used += length
        position += rest + 1
        if position >= entries:
            return -2
        out[number] = position
    return used
