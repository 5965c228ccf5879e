"""Tables and plots from the result files alone.

    python -m experiments.sbc_charlstm_shakespeare.report --out=experiments/sbc_charlstm_shakespeare/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the README.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.markdown import markdown, spread
from experiments.plots import axes_of, save
from experiments.results import Record, main, publish, read
from experiments.sbc_charlstm_shakespeare import runs
from experiments.sbc_lenet_mnist.methods import METHODS, Method
from experiments.sbc_lenet_mnist.results import values
from experiments.sbc_lenet_mnist.tables import mean, times

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
Cells = Mapping[Method, Mapping[int, Record]]


def load(out: Path) -> dict[Method, dict[int, Record]]:
    """The longest and widest runs of a folder.

    Raises:
      ValueError: no results there.
    """
    records = read(out, "python -m experiments.sbc_charlstm_shakespeare  first")
    size = max((record["iterations"], record["hidden"]) for record in records)
    cells: dict[Method, dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        if (record["iterations"], record["hidden"]) == size:
            method = Method(record["kind"], record["every"], record["density"])
            cells.setdefault(method, {})[record["seed"]] = record
    return cells


def table(cells: Cells) -> str:
    """The methods beside each other."""
    rows = []
    for name in runs.TABLE:
        how = METHODS[name]
        if how not in cells:
            continue
        mine = cells[how]
        ratio = mean(values(mine, "compression_ratio"))
        rows.append(
            [
                how.label,
                str(how.every),
                f"{how.density:g}",
                str(len(mine)),
                spread(values(mine, "test_perplexity")),
                f"{mean(values(mine, 'bits', 1e-6)):,.2f}",
                times(ratio),
                times(mean(values(mine, "wire_ratio"))),
                times(how.factor()),
                f"{100 * ratio / how.factor():.0f}%",
            ]
        )
    headings = ["method", "n", "density", "seeds", "test perplexity", "Mbit sent", "ratio, bits"]
    return markdown([*headings, "ratio, wire", "in theory", "reached"], rows)


def figure3(cells: Cells) -> str:
    """Test perplexity (and compression) over local steps and density."""
    rows = []
    for every in runs.GRID_STEPS:
        row = [str(every)]
        for density in runs.GRID_DENSITIES:
            kinds = ("dense", "fedavg") if density == 1.0 else ("sbc",)
            found = [cells[how] for kind in kinds if (how := Method(kind, every, density)) in cells]
            row.append(
                f"{spread(values(found[0], 'test_perplexity'))} "
                f"({times(mean(values(found[0], 'compression_ratio')))})"
                if found
                else "-"
            )
        rows.append(row)
    return markdown(["n", *(f"density {density:g}" for density in runs.GRID_DENSITIES)], rows)


def text(cells: Cells) -> str:
    """All tables, each under its heading."""
    first = next(iter(next(iter(cells.values())).values()))
    setting = (
        f"{first['clients']} clients, 2 x {first['hidden']}, {first['iterations']:,} iterations"
    )
    parts = [
        f"### CharLSTM on tinyshakespeare, {setting}",
        table(cells),
        "### Figure 3: temporal sparsity by gradient sparsity, test perplexity (compression)",
        figure3(cells),
    ]
    return "\n\n".join(parts) + "\n"


def plot(cells: Cells, over: str, label: str, path: Path) -> None:
    """Test perplexity of the table's methods against iterations or bits."""
    figure, axes = axes_of("test perplexity", label)
    for how in (METHODS[name] for name in runs.TABLE):
        if how not in cells:
            continue
        curves = [record["curves"] for record in cells[how].values()]
        across = np.mean([curve[over] for curve in curves], axis=0)
        level = np.exp(np.mean(np.log([curve["test_perplexity"] for curve in curves]), axis=0))
        # No bits before the first message: nothing to show on a logarithmic axis.
        axes.loglog(across[across > 0], level[across > 0], marker=".", label=how.label)
    axes.grid(alpha=0.15, which="minor")
    save(figure, axes, path)


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results, and the tables of our own into the README."""
    cells = load(out)
    publish(text(cells), out, README)
    plot(cells, "iteration", "iterations", out / "perplexity_iterations.png")
    plot(cells, "bits", "bits sent upstream by one client", out / "perplexity_bits.png")


if __name__ == "__main__":
    main("experiments.sbc_charlstm_shakespeare", write, RESULTS)
