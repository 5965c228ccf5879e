"""Interleaved timing: one process, candidates visited in shuffled blocks, so that drift hits all."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Times of one candidate, in seconds per unit of work.

    Attributes:
      median: of all calls that counted.
      p10: a tenth of the calls were faster.
      p90: a tenth of the calls were slower.
      calls: how many calls counted.
    """

    median: float
    p10: float
    p90: float
    calls: int


class Effort(NamedTuple):
    """How much is measured.

    Attributes:
      rounds: visits to every candidate.
      block_s: seconds that a visit aims at.
      most_calls: calls of a visit at the most.
      warm: calls at the start of a visit that do not count: they bring caches and buffers back.
    """

    rounds: int = 12
    block_s: float = 0.25
    most_calls: int = 60
    warm: int = 3


LONG_S = 0.5
QUICK = Effort(rounds=2, block_s=0.01, most_calls=4, warm=1)


def measure(
    candidates: Mapping[str, Callable[[int], Any]],
    wait: Callable[[Any], Any],
    effort: Effort = Effort(),  # noqa: B008 (a tuple of numbers)
    units: Mapping[str, int] | None = None,
) -> dict[str, Timing]:
    """Times every candidate.

    Args:
      candidates: name -> function of a running number; it should pick its inputs by that number,
        so that no call repeats the one before.
      wait: blocks until a result is there.
      effort: how many calls.
      units: name -> steps that one call does, 1 where not named; times are per step.

    Returns:
      Name -> `Timing`, in the order given.

    Example:
      >>> times = measure({"sum": lambda i: sum(range(i))}, wait=lambda r: r, effort=QUICK)
      >>> times["sum"].calls, times["sum"].p10 <= times["sum"].median <= times["sum"].p90
      (8, True)
    """
    numbers = dict.fromkeys(candidates, 0)

    def call(name: str) -> float:
        number = numbers[name]
        numbers[name] += 1
        start = time.perf_counter()
        result = candidates[name](number)
        wait(result)
        elapsed = time.perf_counter() - start
        del result  # so that its buffers are free again before the next call
        return elapsed

    per_visit, warm = {}, {}
    for name in candidates:
        call(name)  # compiles
        once = min(call(name) for _ in range(2))
        # A long call brings its caches back by itself.
        least, warm[name] = (3, effort.warm) if once < LONG_S else (1, min(1, effort.warm))
        per_visit[name] = int(min(effort.most_calls, max(least, effort.block_s / max(once, 1e-7))))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order, shuffler = list(candidates), random.Random(0)
    for _ in range(effort.rounds):
        shuffler.shuffle(order)
        for name in order:
            for _ in range(warm[name]):
                call(name)
            samples[name] += [call(name) for _ in range(per_visit[name])]
    return {
        name: _summary(times, 1 if units is None else units.get(name, 1))
        for name, times in samples.items()
    }


def _summary(times: list[float], units: int) -> Timing:
    median, p10, p90 = (float(q) / units for q in np.percentile(times, [50, 10, 90]))
    return Timing(median, p10, p90, len(times))
