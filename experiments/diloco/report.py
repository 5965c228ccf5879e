"""Table and figure from the result files alone.

    python -m experiments.diloco.report --out=experiments/diloco/results

Writes `tables.md` and `loss_over_bits.png` beside the results; the table of the results in this package also goes into
the README.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.diloco import runs
from experiments.markdown import difference, markdown, spread
from experiments.plots import axes_of, save
from experiments.results import Record, main, publish, read
from experiments.statistics import mean_and_std, paired_difference

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# Label -> seed -> content of a result file.
Cells = Mapping[str, Mapping[int, Record]]
DENSE = runs.Run("dense", 0).label


def load(out: Path) -> dict[str, dict[int, Record]]:
    """The longest runs of a folder, in the order of the grid.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.diloco")
    longest = max(record["steps"] for record in records)
    fields = tuple(runs.Run.__dataclass_fields__)
    found: dict[str, dict[int, Record]] = {run.label: {} for run in runs.cells()}
    for record in records:
        if record["steps"] == longest:
            label = runs.Run(**{field: record[field] for field in fields}).label
            found.setdefault(label, {})[record["seed"]] = record
    return {label: mine for label, mine in found.items() if mine}


def losses(mine: Mapping[int, Record]) -> dict[int, float]:
    """Seed -> validation loss at the end, nats a character."""
    return {seed: record["validation_loss"] for seed, record in mine.items()}


def mean(mine: Mapping[int, Record], field: str) -> float:
    """Of a field over seeds."""
    return mean_and_std([float(record[field]) for record in mine.values()])[0]


def table(cells: Cells) -> str:
    """Loss and bits of every method."""
    rows = []
    for label, mine in cells.items():
        sent, dense = mean(mine, "bits_per_worker"), mean(mine, "dense_bits_per_worker")
        versus = "-"
        if label != DENSE and DENSE in cells:
            versus = difference(paired_difference(losses(mine), losses(cells[DENSE])))
        rows.append(
            [
                label,
                str(len(mine)),
                spread(losses(mine), 3),
                versus,
                f"{sent / 1e6:,.2f}",
                f"{sent / mean(mine, 'rounds') / 8e3:,.2f}",
                f"{dense / sent:,.0f}",
            ]
        )
    headings = ["method", "seeds", "validation loss, nats", "minus DiLoCo", "Mbit a worker"]
    return markdown([*headings, "kB a round", "times less"], rows)


def text(cells: Cells) -> str:
    """The table under its heading."""
    first = next(iter(cells[max(cells, key=lambda label: len(cells[label]))].values()))
    heading = (
        f"### DecoderLM, {first['parameters']:,} parameters, on tinyshakespeare: {first['workers']} workers, "
        f"{first['steps']:,} steps"
    )
    note = (
        "Mean ± standard deviation over seeds; differences are paired by seed, with 95% intervals. Bits are what "
        "a worker sends; *times less* is against a dense gradient at every step."
    )
    return f"{heading}\n\n{table(cells)}\n\n{note}\n"


def plot(cells: Cells, path: Path) -> None:
    """Validation loss in the course of training against what a worker has sent by then."""
    figure, axes = axes_of("validation loss, nats a character", "sent by a worker, bit")
    axes.set_xscale("log")
    for number, (label, mine) in enumerate(cells.items()):
        curves = [record["curves"] for record in mine.values()]
        bits = np.mean([curve["bits"] for curve in curves], axis=0)
        level = np.mean([curve["validation_loss"] for curve in curves], axis=0)
        style = "-" if number < 7 else "--"
        axes.plot(bits, level, style, marker=".", label=label, color=f"C{number}")
    axes.set_ylim(top=min(axes.get_ylim()[1], 4.2))
    figure.set_size_inches(9.0, 4.6)
    save(figure, axes, path, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def write(out: Path) -> None:
    """Writes table and figure into the folder of the results, and the table of our own into the README."""
    cells = load(out)
    publish(text(cells), out, README)
    plot(cells, out / "loss_over_bits.png")


if __name__ == "__main__":
    main("experiments.diloco", write, RESULTS)
