"""Result files read back, and grouped into cells of equal setting."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.results import Record, read


class Cell(NamedTuple):
    """What the runs of a cell have in common; the fields are those of `runs.Run` less the seed."""

    method: str
    kept: int | None
    decay: float
    epochs: int
    hidden: int

    @property
    def label(self) -> str:
        """Name in tables and plots.

        Example:
          >>> Cell("msbp", 20, 0.8, 20, 500).label
          'MSBP, decay .8'
        """
        remembers = f", decay {self.decay:g}".replace("0.", ".") if self.decay else ""
        return {
            "dense": "dense",
            "sbp": "SBP",
            "msbp": "MSBP",
            "unified": "unified",
            "unified_rows": "unified, row-sparse Adam",
            "union_rows": "MSBP, row-sparse Adam",
            "adaptive": "MSBP, adaptive decay",
            "grouped": "unified in 8 row groups",
        }[self.method] + remembers


Cells = Mapping[Cell, Mapping[int, Record]]


def load(out: Path) -> dict[Cell, dict[int, Record]]:
    """All results of a folder.

    Args:
      out: folder of the result files.

    Returns:
      Cell -> seed -> content of the file, both in a fixed order.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.msbp_mnist  first")
    cells: dict[Cell, dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        cell = Cell(*(record[field] for field in Cell._fields))
        cells.setdefault(cell, {})[record["seed"]] = record
    return cells


def pick(cells: Cells, wanted: Callable[[Cell], bool]) -> dict[Cell, Mapping[int, Record]]:
    """The cells that a table or a plot is about."""
    return {cell: runs for cell, runs in cells.items() if wanted(cell)}


def values(runs: Mapping[int, Record], field: str, factor: float = 1.0) -> dict[int, float]:
    """Seed -> one number of the summary.

    Args:
      runs: of one cell.
      field: of the summary, or "angles <path>" or "angles_moving <path>" for the angle of a parameter, or of all with
        the path "all", in degrees.
      factor: multiplied to the number, as 100 for per cent.
    """
    kind, _, name = field.partition(" ")
    if name:
        # A method without a memory has one angle.
        return {
            seed: math.degrees((record[kind] or record["angles"])[name])
            for seed, record in runs.items()
        }
    return {seed: factor * record["summary"][field] for seed, record in runs.items()}
