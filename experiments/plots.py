"""Results as pictures: axes to draw on, and a file whose bytes depend on the results alone."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # Not pyplot: no display and no global state.


def axes_of(label: str, horizontal: str) -> tuple[Figure, Any]:
    """A figure with one pair of named axes."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(horizontal)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    return figure, axes


def save(figure: Figure, axes: Any, path: Path, **legend: Any) -> None:
    """Adds the legend, placed as asked for, and writes a PNG."""
    axes.legend(**legend)
    # No software version in the file: equal results give equal bytes.
    figure.savefig(path, dpi=100, metadata={"Software": None})
