"""Tables from the result files alone.

    python -m experiments.flower.report --out=experiments/flower/results

Writes `tables.md` beside the results; the tables of the results in this package also go into the README.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.flower.methods import METHODS
from experiments.markdown import difference, markdown, spread
from experiments.results import Record, main, publish, read
from experiments.statistics import paired_difference

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
LAST = 5  # measurements whose mean is the accuracy: with unequal data it jumps from round to round
TITLES = {"digits": "Digits of scikit-learn", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
# (alpha, dropout) -> method -> seed -> content of the result file.
Settings = Mapping[tuple[float | None, float], Mapping[str, Mapping[int, Record]]]


def load(out: Path) -> dict[str, dict[tuple[float | None, float], dict[str, dict[int, Record]]]]:
    """The longest runs of each data set in a folder.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.flower  first")
    found: dict[str, dict[tuple[float | None, float], dict[str, dict[int, Record]]]] = {}
    for name in TITLES:
        mine = [record for record in records if record["data"] == name]
        longest = max((record["rounds"] for record in mine), default=0)
        mine = [record for record in mine if record["rounds"] == longest]
        settings = sorted(
            {(record["alpha"], record["dropout"]) for record in mine},
            key=lambda setting: (setting[0] is not None, setting),
        )
        for setting in settings:
            for method in METHODS:
                cell = {
                    record["seed"]: record
                    for record in mine
                    if (record["method"], record["alpha"], record["dropout"]) == (method, *setting)
                }
                if cell:
                    found.setdefault(name, {}).setdefault(setting, {})[method] = cell
    return found


def accuracy(record: Record) -> float:
    """Mean of the last measurements, in per cent."""
    return 100 * float(np.mean(record["curves"]["test_accuracy"][-LAST:]))


def mean(cell: Mapping[int, Record], field: str) -> float:
    """Mean over seeds of one number of the summary."""
    return float(np.mean([record["summary"][field] for record in cell.values()]))


def table(methods: Mapping[str, Mapping[int, Record]]) -> str:
    """Accuracy and bytes of every method in one setting."""
    base = methods.get("fedavg", {})
    rows = []
    for name, cell in methods.items():
        ours, theirs = (
            {seed: accuracy(record) for seed, record in which.items()} for which in (cell, base)
        )
        row = [METHODS[name].label, str(len(cell)), spread(ours)]
        row.append("-" if name == "fedavg" else difference(paired_difference(ours, theirs)))
        for field in ("bytes_up", "bytes_down"):
            row.append(f"{mean(cell, field) / 1e6:,.3f}")
            row.append(f"x{mean(base, field) / mean(cell, field):,.1f}" if base else "-")
        row.append(f"{mean(cell, 'whole'):,.0f}")
        # FedAvg sends nothing but whole weights, which says how long they are.
        size = mean(base, "bytes_down") / mean(base, "whole") if base else float("nan")
        answers = mean(cell, "bytes_down") - mean(cell, "whole") * size
        row.append(f"{answers / 1e6:,.3f}" if base else "-")
        rows.append(row)
    headings = ["method", "seeds", "test accuracy, %", "minus FedAvg", "MB up", "ratio"]
    headings += ["MB down", "ratio", "whole weights sent", "MB of answers sent"]
    return markdown(headings, rows)


def heading(
    setting: tuple[float | None, float], methods: Mapping[str, Mapping[int, Record]]
) -> str:
    """A setting in words."""
    alpha, dropout = setting
    cells = [record for cell in methods.values() for record in cell.values()]
    sizes = [size for record in cells for size in record["examples"]]
    share = "equal shares" if alpha is None else f"Dirichlet({alpha:g})"
    fail = f"{100 * dropout:.0f}% of the invited fail" if dropout else "nobody fails"
    asked, heard = (
        np.mean([record["summary"][field] for record in cells]) for field in ("asked", "heard")
    )
    return (
        f"**{share}** ({min(sizes):,} to {max(sizes):,} examples a client), **{fail}** "
        f"({heard:,.0f} of {asked:,.0f} invitations answered)"
    )


def text(found: Mapping[str, Settings]) -> str:
    """The tables under their headings."""
    parts = []
    for name, settings in found.items():
        cells = [cell for methods in settings.values() for cell in methods.values()]
        records = [record for cell in cells for record in cell.values()]
        first = records[0]
        engines = ", ".join(sorted({record["engine"] for record in records}))
        parts.append(
            f"### {TITLES[name]}, {first['parameters']:,} parameters, {first['clients']} clients, "
            f"{first['rounds']} rounds, {engines}"
        )
        for setting, methods in settings.items():
            parts += [heading(setting, methods), table(methods)]
    return "\n\n".join(parts) + "\n"


def write(out: Path) -> None:
    """Writes the tables into the folder of the results, and those of our own into the README."""
    publish(text(load(out)), out, README)


if __name__ == "__main__":
    main("experiments.flower", write, RESULTS)
