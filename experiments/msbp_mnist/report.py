"""Tables and plots from the result files alone.

    python -m experiments.msbp_mnist.report --out=experiments/msbp_mnist/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the
README, and the first of them into the one of the repository.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.msbp_mnist import plots, tables
from experiments.msbp_mnist.results import Cells, load, pick
from experiments.results import embed

README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results"
FRONT = Path(__file__).parents[2] / "README.md"


def epochs_of(cells: Cells, hidden: int, decayed: bool) -> int | None:
    """Length of a table's runs: the longest there are; of the figures': the longest with many decays."""
    found: dict[int, set[float]] = {}
    for cell in cells:
        if cell.hidden == hidden:
            found.setdefault(cell.epochs, set()).add(cell.decay)
    suitable = [epochs for epochs, decays in found.items() if not decayed or len(decays) > 2]
    return max(suitable, default=None)


def text(cells: Cells) -> str:
    """All tables, each under its heading.

    Args:
      cells: as from `results.load`.

    Returns:
      Markdown; parts of the grid without results are left out.
    """
    parts = []
    for hidden, name in ((500, "Table 2 (MNIST)"), (5000, "Table 5")):
        epochs = epochs_of(cells, hidden, decayed=False)
        if epochs is None:
            continue
        parts += [
            f"### {name}: MLP 784-{hidden}-{hidden}-10, {epochs} epochs, test accuracy in %",
            tables.accuracy(cells, hidden, epochs),
            "Paired differences in points, with 95% intervals (Student, over seeds):",
            tables.differences(cells, hidden, epochs),
            "After the last epoch (angles in degrees: memory moving / memory held, see below):",
            tables.diagnostics(cells, hidden, epochs),
        ]
    epochs = epochs_of(cells, 500, decayed=True)
    if epochs is not None:
        parts += [
            f"### Figures 2, 3 and 5: k and decay, {epochs} epochs (accuracy at the end, angles as above)",
            tables.figures(cells, epochs),
        ]
    extended = [cell.epochs for cell in cells if cell.method in ("adaptive", "grouped")]
    if extended:
        epochs = max(extended)
        parts += [
            f"### Beyond the paper: {epochs} epochs, test accuracy in %, differences with 95% intervals",
            tables.beyond(cells, epochs),
        ]
    return "\n\n".join(parts) + "\n"


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results."""
    cells = load(out)
    (out / "tables.md").write_text(text(cells))
    epochs = epochs_of(cells, 500, decayed=False)
    for kept in (5, 20):
        long = pick(cells, lambda cell: cell.hidden == 500 and cell.epochs == epochs)
        if any(cell.kept == kept for cell in long):
            plots.curves(long, kept, out / f"curves_k{kept}.png")
    epochs = epochs_of(cells, 500, decayed=True)
    if epochs is not None:
        grid = pick(cells, lambda cell: cell.hidden == 500 and cell.epochs == epochs)
        plots.accuracy(grid, out / "figure2_accuracy.png")
        if any(len(seeds) > 1 for seeds in grid.values()):
            plots.spread(grid, out / "figure3_spread.png")
        plots.angle(grid, out / "figure5_angle.png")


def main(argv: Sequence[str]) -> None:
    """Writes everything anew."""
    parser = argparse.ArgumentParser("python -m experiments.msbp_mnist.report")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    out = parser.parse_args(argv).out
    try:
        write(out)
    except ValueError as error:
        sys.exit(str(error))
    if out.resolve() == RESULTS.resolve():
        embed(README, (out / "tables.md").read_text())
        cells = load(out)
        embed(FRONT, tables.accuracy(cells, 500, epochs_of(cells, 500, decayed=False) or 0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
