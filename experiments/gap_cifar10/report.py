"""Tables from the result files alone.

    python -m experiments.gap_cifar10.report --out=experiments/gap_cifar10/results

Writes `tables.md` beside the results; the tables of the results in this package also go into the README.
"""

from collections.abc import Mapping
from pathlib import Path

from experiments.gap_cifar10 import runs
from experiments.markdown import markdown, spread
from experiments.results import Record, main, publish, read
from experiments.sbc_lenet_mnist.results import values
from experiments.sbc_lenet_mnist.tables import mean

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# (setting, depth) -> method -> seed -> content of the result file.
Tables = Mapping[tuple[str, int], Mapping[str, Mapping[int, Record]]]


def load(out: Path) -> dict[tuple[str, int], dict[str, dict[int, Record]]]:
    """All results of a folder.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.gap_cifar10  first")
    found: dict[tuple[str, int], dict[str, dict[int, Record]]] = {}
    for record in sorted(records, key=lambda record: (record["depth"], record["seed"])):
        cells = found.setdefault((record["setting"], record["depth"]), {})
        cells.setdefault(record["method"], {})[record["seed"]] = record
    return found


def table(cells: Mapping[str, Mapping[int, Record]]) -> str:
    """The methods beside each other."""
    rows = []
    for method in (method for method in runs.METHODS if method in cells):
        mine = cells[method]
        rows.append(
            [
                method,
                str(len(mine)),
                f"{mean(values(mine, 'density')):.3f}",
                spread(values(mine, "test_accuracy", 100)),
                spread(values(mine, "test_accuracy_at_best", 100)),
                f"{mean(values(mine, 'mflops')):.1f}",
                f"{sum(record['wall_seconds'] for record in mine.values()) / len(mine):,.0f}",
            ]
        )
    headings = ["method", "seeds", "density", "test accuracy, %", "at best validation, %"]
    return markdown([*headings, "MFLOPs an image", "seconds"], rows)


def text(tables: Tables) -> str:
    """The tables under their headings."""
    parts = []
    for (setting, depth), cells in tables.items():
        used = next(iter(next(iter(cells.values())).values()))["setting_of_run"]
        updates = used["phases"] * used["phase"] + used["fine_tune"]
        heading = f"### ResNet-{depth}, `{setting}`: {updates:,} updates, batch {used['batch']}"
        parts.append(f"{heading}\n\n{table(cells)}\n")
    return "\n".join(parts)


def write(out: Path) -> None:
    """Writes tables into the folder of the results, and those of our own into the README."""
    publish(text(load(out)), out, README)


if __name__ == "__main__":
    main("experiments.gap_cifar10", write, RESULTS)
