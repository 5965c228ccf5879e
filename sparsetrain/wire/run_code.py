"""Streams of codes that each begin with a run: where every run ends, found in many places at once.

A code is a run of zeros, a one, and a tail; its length is known only once it has been read, so the
beginning of the next is not. The stream is cut into lanes that all walk in step. Where a lane begins
is guessed by walking up to it from an arbitrary bit: such a walk soon meets the true codes by
itself. Lanes that another lane's end contradicts are walked again.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sparsetrain.wire.bit_fields import read, windows
from sparsetrain.wire.error import WireError

# (lengths of runs, bits where they end, reader of fields) -> bits of the tails behind them. Applied
# to arrays and to plain integers alike.
Tails = Callable[[Any, Any, Callable[[Any, int], Any]], Any]

_FEW = 4096  # codes up to which one walk in plain Python is faster
# A step costs a fixed time, so few codes are cut into short lanes.
_LEAST_A_LANE, _MOST_A_LANE = 32, 128
_WARM = 32  # codes walked in front of a lane to find its first
_ROUNDS = 4
_BATCH = 1 << 14  # codes handled at a time, so that what is computed on the way stays in cache
_DIGITS = bytes.maketrans(b"\0\1", b"01")
_MANTISSA = 24  # bits of which a float32 knows the highest one exactly


def find_runs(buffer: np.ndarray, count: int, tails: Tails) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of the first `count` codes begin, and the ones that end them.

    Args:
      buffer: uint8, from the first bit of the first code on; more may follow the last.
      count: number of codes.
      tails: how long the tails are.

    Returns:
      int64 [count] bits, twice.

    Raises:
      WireError: the buffer ends within a run. A tail that is cut off is for the caller to see.

    Example:
      >>> stream = np.packbits([1, 0, 0, 0, 1, 0, 1, 1])          # 1.0, 001.0, 1.1
      >>> begins, ends = find_runs(stream, 3, lambda runs, ends, fields: 1)
      >>> begins.tolist(), ends.tolist()
      ([0, 2, 6], [0, 4, 6])
    """
    if count <= _FEW:
        begins, ends, _ = _OneWalk(buffer, tails).walk_to(0, 8 * buffer.size, count)
    else:
        begins, ends = _Lanes(buffer, count, tails).walk()
    if ends.size < count or (count and int(ends[-1]) >= 8 * buffer.size):
        raise WireError("the stream of codes ends too early: the message was cut or forged")
    return begins, ends


class _OneWalk:
    """One code after the other."""

    def __init__(self, buffer: np.ndarray, tails: Tails):
        self.tails = tails
        self.flags = np.unpackbits(buffer).tobytes()

    def field(self, start: int, width: int) -> int:
        """Bits behind the end of the buffer read as zeros."""
        piece = self.flags[start : start + width].ljust(width, b"\0")
        return int(piece.translate(_DIGITS), 2) if width else 0

    def walk_to(self, begin: int, limit: int, most: int) -> tuple[np.ndarray, np.ndarray, int]:
        """At most so many codes that begin in front of a limit, and where the next one begins."""
        begins: list[int] = []
        ends: list[int] = []
        while begin < limit and len(ends) < most:
            end = self.flags.find(b"\1", begin)
            if end < 0:
                begin = len(self.flags)
                break
            begins.append(begin)
            ends.append(end)
            begin = end + 1 + self.tails(end - begin, end, self.field)
        stop = min(begin, len(self.flags))
        return np.array(begins, np.int64), np.array(ends, np.int64), stop


class _Lanes:
    """Many walks in step."""

    def __init__(self, buffer: np.ndarray, count: int, tails: Tails):
        self.buffer, self.count, self.tails = buffer, count, tails
        self.bits = 8 * buffer.size
        self.narrow = windows(buffer, 32)

    @functools.cached_property
    def wide(self) -> np.ndarray:
        """For reading fields."""
        return windows(self.buffer, 64)

    @functools.cached_property
    def filled(self) -> np.ndarray:
        """Bytes that hold a one, and the end of the buffer."""
        return np.append(np.flatnonzero(self.buffer), self.buffer.size)

    def field(self, starts: np.ndarray, width: int) -> np.ndarray:
        """Fields behind the ends of runs."""
        return read(self.wide, np.minimum(starts, self.bits), width)

    def ends_from(self, begins: np.ndarray) -> np.ndarray:
        """The next one at or behind each bit; the end of the buffer where there is none."""
        window = self.narrow[begins >> 3] << (begins & 7).astype(np.uint32)
        # The exponent of a float is the place of the highest one.
        head = (window >> np.uint32(32 - _MANTISSA)).astype(np.float32)
        runs = (127 + _MANTISSA - 1) - (head.view(np.int32) >> 23)
        ends = begins + runs
        is_far = runs > _MANTISSA
        if is_far.any():
            ends[is_far] = self._far(begins[is_far])
        return ends

    def _far(self, begins: np.ndarray) -> np.ndarray:
        """The same where the next byte and the one behind it hold no one."""
        following = np.minimum((begins >> 3) + 1, self.buffer.size)
        at = self.filled[np.searchsorted(self.filled, following)]
        head = (self.narrow[at] >> np.uint32(24)).astype(np.float32)
        return np.minimum(8 * at + 127 + 7 - (head.view(np.int32) >> 23), self.bits)

    def walk_to(self, begins: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every lane up to the first code that begins at or behind its limit.

        Returns:
          [steps, lanes] begins of codes, of which those in front of the limit count, and [lanes]
          where each lane stopped.
        """
        rows: list[np.ndarray] = []
        # No lane needs more codes than there are: a forged stream cannot keep us longer.
        while len(rows) < self.count and (live := begins < limits).any():
            ends = self.ends_from(begins)
            nexts = np.minimum(ends + (1 + self.tails(ends - begins, ends, self.field)), self.bits)
            rows.append(begins)
            begins = np.where(live, nexts, begins)
        return np.array(rows, np.int64).reshape(len(rows), begins.size), begins

    def walk(self) -> tuple[np.ndarray, np.ndarray]:
        """All lanes, and those again whose first code was guessed wrong."""
        codes = min(_MOST_A_LANE, max(_LEAST_A_LANE, math.isqrt(self.count) // 4))
        mean = -(-self.bits // self.count)
        edges = np.arange(0, self.bits, codes * mean, dtype=np.int64)
        limits = np.append(edges[1:], self.bits)
        _, starts = self.walk_to(np.maximum(0, edges - _WARM * mean), edges)
        rows, stops = self.walk_to(starts, limits)
        redone: dict[int, np.ndarray] = {}
        for _ in range(_ROUNDS):
            wrong = 1 + np.flatnonzero(stops[:-1] != starts[1:])
            if not wrong.size:
                break
            starts[wrong] = stops[wrong - 1]
            again, stops[wrong] = self.walk_to(starts[wrong], limits[wrong])
            redone.update(
                (lane, column[column < limits[lane]])
                for lane, column in zip(wrong.tolist(), again.T, strict=True)
            )
        else:
            self._mend(rows, redone, starts, stops, limits)
        rows[:, list(redone)] = self.bits
        begins = rows.T[(rows < limits).T]
        if redone:
            # Few runs, each sorted: a merge.
            begins = np.sort(np.concatenate([begins, *redone.values()]), kind="stable")
        begins = begins[: self.count]
        ends = np.empty_like(begins)
        for first in range(0, begins.size, _BATCH):
            ends[first : first + _BATCH] = self.ends_from(begins[first : first + _BATCH])
        return begins, ends

    def _mend(
        self,
        rows: np.ndarray,
        redone: dict[int, np.ndarray],
        starts: np.ndarray,
        stops: np.ndarray,
        limits: np.ndarray,
    ) -> None:
        """One after the other, lanes whose walks never meet the true codes: a regular stream."""
        codes = (rows < limits).sum(0).tolist()
        walker = _OneWalk(self.buffer, self.tails)
        missing = self.count - codes[0]
        for lane in range(1, len(codes)):
            if missing <= 0:
                break
            if stops[lane - 1] != starts[lane]:
                begin, limit = int(stops[lane - 1]), int(limits[lane])
                redone[lane], _, stops[lane] = walker.walk_to(begin, limit, missing)
            missing -= redone[lane].size if lane in redone else codes[lane]
