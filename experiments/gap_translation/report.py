"""Tables from the result files alone.

    python -m experiments.gap_translation.report --out=experiments/gap_translation/results

Writes `tables.md` beside the results; the tables of the results in this package also go into the README.
"""

from collections.abc import Mapping
from pathlib import Path

from experiments.gap_translation import runs
from experiments.markdown import markdown, spread
from experiments.results import Record, main, publish, read
from experiments.sbc_lenet_mnist.results import values
from experiments.sbc_lenet_mnist.tables import mean

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# setting -> method -> seed -> content of the result file.
Tables = Mapping[str, Mapping[str, Mapping[int, Record]]]


def load(out: Path) -> dict[str, dict[str, dict[int, Record]]]:
    """All results of a folder.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.gap_translation  first")
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        cells = found.setdefault(record["setting"], {})
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
                spread(values(mine, "bleu")),
                spread(values(mine, "bleu_at_best")),
                spread(values(mine, "validation"), 3),
                f"{mean(values(mine, 'mflops')):.1f}",
                f"{sum(record['wall_seconds'] for record in mine.values()) / len(mine):,.0f}",
            ]
        )
    headings = ["method", "seeds", "density", "SacreBLEU", "at best validation"]
    return markdown([*headings, "validation loss, nats", "MFLOPs a pair", "seconds"], rows)


def text(tables: Tables) -> str:
    """The tables under their headings."""
    parts = []
    for setting, cells in tables.items():
        first = next(iter(next(iter(cells.values())).values()))
        used = first["setting_of_run"]
        updates = used["phases"] * used["phase"] + used["fine_tune"]
        heading = f"### `{setting}`: {updates:,} updates, batch {used['batch']}"
        signature = f"{used['tested']:,} sentences, `{first['signature']}`"
        parts.append(f"{heading}\n\n{table(cells)}\n\n{signature}\n")
    return "\n".join(parts)


def write(out: Path) -> None:
    """Writes tables into the folder of the results, and those of our own into the README."""
    publish(text(load(out)), out, README)


if __name__ == "__main__":
    main("experiments.gap_translation", write, RESULTS)
