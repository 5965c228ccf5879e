"""Result files read back, and grouped by method."""

from collections.abc import Mapping
from pathlib import Path

from experiments.results import Record, read
from experiments.sbc_lenet_mnist.methods import METHODS

# Method -> seed -> content of the result file.
Runs = Mapping[str, Mapping[int, Record]]


def load(out: Path, iterations: int | None = None) -> dict[str, dict[int, Record]]:
    """All results of one length.

    Args:
      out: folder of the result files.
      iterations: length of the runs; None for the longest there are.

    Returns:
      Method -> seed -> content, methods in the order of `METHODS`, seeds rising.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.sbc_lenet_mnist  first")
    length = iterations or max(record["iterations"] for record in records)
    found: dict[str, dict[int, Record]] = {}
    for method in METHODS:
        mine = [r for r in records if (r["method"], r["iterations"]) == (method, length)]
        if mine:
            found[method] = {r["seed"]: r for r in sorted(mine, key=lambda record: record["seed"])}
    return found


def values(runs: Mapping[int, Record], field: str, factor: float = 1.0) -> dict[int, float]:
    """Seed -> one number of the summary, times a factor such as 100 for per cent."""
    return {seed: factor * record["summary"][field] for seed, record in runs.items()}
