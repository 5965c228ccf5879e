"""One run to one result file: never a partial one, never a finished one again."""

from collections.abc import Callable
from pathlib import Path

from experiments.flower import rounds
from experiments.flower.problem import load
from experiments.flower.rounds import Course
from experiments.flower.runs import Run
from experiments.grid import write_once

PLAIN = "plain loop"


def record(
    run: Run, out: Path, train: Callable[[], Course] | None = None, engine: str = PLAIN
) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      train: trains it; None for the plain loop.
      engine: what that is, with its version; goes into the file.

    Returns:
      Whether there was something to do.
    """
    train = train or (lambda: rounds.follow(run, load(run.data)))
    return write_once(run, out, lambda: {"engine": engine, **train().content()})


def missing(grid: list[Run], out: Path) -> list[Run]:
    """Runs without a result file."""
    return [run for run in grid if not (out / f"{run.name}.json").exists()]
