"""What every method wins or loses against the first line of its part, seed by seed."""

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure  # Not pyplot: no display and no global state.

from experiments.paper_tables import runs
from experiments.paper_tables.results import SCORES, Cells, scores
from experiments.statistics import paired_difference

COLUMNS = 3


def draw(parts: Mapping[str, Cells], path: Path) -> None:
    """A panel a part: differences of the test score, a point a seed, and the mean with its 95% interval.

    Args:
      parts: as from `results.load`.
      path: of the PNG.
    """
    shown = {
        name: cells
        for name, cells in parts.items()
        if len(cells) > 1 and runs.PARTS[name].lines[0].key in cells
    }
    rows = max(1, math.ceil(len(shown) / COLUMNS))
    figure = Figure(figsize=(13.0, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel, (name, cells) in zip(panels, shown.items(), strict=False):
        part = runs.PARTS[name]
        first, *others = (line for line in part.lines if line.key in cells)
        base = scores(part, cells[first.key], "test")
        panel.axvline(0, color="black", linewidth=1)
        for place, line in enumerate(others):
            mine = scores(part, cells[line.key], "test")
            found = paired_difference(mine, base)
            points = [value - base[seed] for seed, value in mine.items() if seed in base]
            panel.plot(points, [place] * len(points), "o", color="C0", alpha=0.4, markersize=5)
            if points:
                panel.plot([found.mean], [place], "D", color="C3", markersize=6)
            if len(points) > 1:
                panel.plot([found.low, found.high], [place, place], color="C3", linewidth=1.5)
        panel.set_yticks(range(len(others)), [line.label for line in others])
        panel.set_ylim(len(others) - 0.5, -0.5)
        panel.set_title(part.title.replace(", ", "\n", 1), fontsize=9)
        panel.set_xlabel(f"{SCORES[part.score][0]}, minus {first.label}", fontsize=9)
        panel.grid(axis="x", alpha=0.3)
    # No software version in the file: equal results give equal bytes.
    figure.savefig(path, dpi=100, metadata={"Software": None})
