"""What is timed against what."""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.program import Program


class Candidate(NamedTuple):
    """One row of a table.

    Attributes:
      name: unique within its group.
      run: function of a running number; does the work once and returns what to wait for.
      family: "layer", "nn.Dense", "one call", "scan"; only baselines of the same family count.
      baseline: kind of baseline this is ("fresh dW", "dW in place", "adam", ...), or "" where it
        is compared with them. Of several baselines of one kind, the fastest counts.
      against: kinds of baselines it is compared with.
      steps: steps that one call of `run` does.
      program: facts of the compiled program, where there is one.
    """

    name: str
    run: Callable[[int], Any]
    family: str
    baseline: str = ""
    against: tuple[str, ...] = ()
    steps: int = 1
    program: Program | None = None
