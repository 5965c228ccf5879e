"""Tables and plots from the result files alone.

    python -m experiments.dls.report --out=experiments/dls/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the README.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.dls import runs
from experiments.dls.models import MODELS
from experiments.markdown import difference, markdown, spread
from experiments.plots import axes_of, save
from experiments.results import Record, main, publish, read
from experiments.sbc_lenet_mnist.results import values
from experiments.sbc_lenet_mnist.tables import mean, times
from experiments.statistics import paired_difference

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# (method, density) -> seed -> content of the result file.
Cells = Mapping[tuple[str, float], Mapping[int, Record]]
SOON = 50  # iterations within which DLS is to have closed the gap


def load(out: Path) -> dict[str, dict[tuple[str, float], dict[int, Record]]]:
    """The longest runs of each model in a folder.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.dls  first")
    models: dict[str, dict[tuple[str, float], dict[int, Record]]] = {}
    for name in models_of(records):
        mine = [record for record in records if record["model"] == name]
        longest = max(record["iterations"] for record in mine)
        for record in sorted(mine, key=lambda record: record["seed"]):
            if record["iterations"] == longest:
                key = record["method"], record["density"]
                models.setdefault(name, {}).setdefault(key, {})[record["seed"]] = record
    return models


def models_of(records: Sequence[Record]) -> list[str]:
    """The models that there are results of, in the order of `MODELS`."""
    return [name for name in MODELS if any(record["model"] == name for record in records)]


def closed(cells: Cells, method: str, density: float) -> str:
    """How much of layer-wise selection's gap in overlap a method has closed after `SOON` iterations.

    (overlap - layer-wise's) / (1 - layer-wise's), of the means over seeds; "-" where there is nothing to compare.
    """
    wanted, base = (cells.get((name, density)) for name in (method, "layer-wise"))
    if not wanted or not base or method == "layer-wise":
        return "-"

    def overlap(mine: Mapping[int, Record]) -> float:
        soon = []
        for record in mine.values():
            curve = record["curves"]
            at = dict(zip(curve["iteration"], curve["overlap"], strict=True))
            soon.append(at.get(SOON, float("nan")))
        return float(np.mean(soon))

    ours, theirs = overlap(wanted), overlap(base)
    if np.isnan(ours + theirs) or theirs >= 1:
        return "-"
    return f"{100 * (ours - theirs) / (1 - theirs):.0f}%"


def table(cells: Cells) -> str:
    """Accuracy, nearness to the global top-k and cost; nearness is the mean over all points but the first two."""
    rows = []
    densities = sorted({density for _, density in cells}, reverse=True)
    for density in densities:
        for method in runs.COMPRESSORS:
            mine = cells.get((method, density))
            if mine is None:
                continue
            late = {
                name: float(np.mean([record["curves"][name][2:] for record in mine.values()]))
                for name in ("spread", "overlap", "captured")
            }
            exact = cells.get(("global", density))
            accuracies = values(mine, "test_accuracy", 100)
            rows.append(
                [
                    f"{density:g}",
                    method,
                    str(len(mine)),
                    spread(accuracies),
                    "-"
                    if exact is None or method == "global"
                    else difference(
                        paired_difference(accuracies, values(exact, "test_accuracy", 100))
                    ),
                    *(["-"] * 3 if method == "dense" else [f"{x:.2f}" for x in late.values()]),
                    closed(cells, method, density),
                    times(mean(values(mine, "compression_ratio"))),
                    f"{np.mean([record['selection_ms'] for record in mine.values()]):.1f}",
                ]
            )
    headings = ["density", "method", "seeds", "test accuracy, %", "minus global"]
    headings += ["threshold spread, decades", "overlap with global", "captured of global's"]
    headings += [f"gap closed at {SOON}", "ratio, bits", "selection, ms"]
    return markdown(headings, rows)


def text(models: Mapping[str, Cells]) -> str:
    """The tables under their headings."""
    parts = []
    for name, cells in models.items():
        first = next(iter(next(iter(cells.values())).values()))
        size = f"{first['clients']} clients, {first['iterations']:,} iterations, batch {first['batch']}"
        parts.append(f"### {MODELS[name].title}, {size}\n\n{table(cells)}\n")
    return "\n".join(parts)


def plot(cells: Cells, density: float, field: str, label: str, path: Path) -> None:
    """One number over iterations, a line for each method at one density."""
    figure, axes = axes_of(f"{label}, density {density:g}", "iterations")
    for method in runs.COMPRESSORS:
        mine = cells.get((method, density))
        if mine:
            curves = [record["curves"] for record in mine.values()]
            level = np.mean([curve[field] for curve in curves], axis=0)
            axes.semilogx(curves[0]["iteration"], level, marker=".", label=method)
    save(figure, axes, path)


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results, and the tables of our own into the README."""
    models = load(out)
    publish(text(models), out, README)
    for name, cells in models.items():
        for density in sorted({density for method, density in cells if method != "dense"}):
            for field, label in (
                ("spread", "threshold spread, decades"),
                ("overlap", "overlap with global"),
            ):
                plot(cells, density, field, label, out / f"{name}_{field}_{density:g}.png")


if __name__ == "__main__":
    main("experiments.dls", write, RESULTS)
