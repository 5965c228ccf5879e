"""Accuracy against each of three costs, in one picture for light and dark pages."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure  # Not pyplot: no display and no global state.
from matplotlib.ticker import FuncFormatter, NullLocator

# Greys that stand out from white and from GitHub's dark page alike; colours near those of Okabe and Ito, so that all
# can tell them apart.
INK, FAINT = "#767e8a", "#9aa2ad"
COLOURS = {"backward": "#2b86c9", "compress": "#c98700", "masks": "#009e73"}
ALL = "#d55e00"
TICKS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Share of a panel's width that labels take.
LABELS = 0.5
PANELS = {
    "backward": "backward pass, FLOP",
    "compress": "sent by the workers, bit",
    "masks": "live weights",
}


class Point(NamedTuple):
    """One cell.

    Attributes:
      levers: '+'-joined; empty for dense training.
      label: what it is called.
      gap: accuracy minus dense training's, points.
      half: half the length of its bar, NaN where there is none.
      shares: lever -> its cost as a share of dense training's.
    """

    levers: str
    label: str
    gap: float
    half: float
    shares: Mapping[str, float]


def colour(levers: str) -> str:
    """Of a marker: its lever's, or one for all three; pairs are grey.

    Example:
      >>> colour("masks"), colour("backward+compress+masks")
      ('#009e73', '#d55e00')
    """
    return ALL if levers.count("+") == 2 else COLOURS.get(levers, INK)


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Heights of labels near these places, in their order, at least `gap` from one another.

    Example:
      >>> apart([0.0, 0.1, 5.0], 1.0)
      [-0.45, 0.55, 5.0]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        groups.append([i])
        centres.append(places[i])
        # A group that reaches into the one below becomes one with it.
        while len(groups) > 1:
            reach = gap * (len(groups[-1]) + len(groups[-2])) / 2
            if centres[-1] - centres[-2] >= reach - 1e-9:
                break
            above = groups.pop()
            groups[-1] += above
            centres.pop()
            centres[-1] = sum(places[j] for j in groups[-1]) / len(groups[-1])
    found = dict.fromkeys(range(len(places)), 0.0)
    for group, centre in zip(groups, centres, strict=True):
        for n, i in enumerate(group):
            found[i] = round(centre + gap * (n - (len(group) - 1) / 2), 12)
    return [found[i] for i in range(len(places))]


def _share(value: float, _: Any = None) -> str:
    # Two digits: who wants more has the table.
    return "dense" if value > 0.99 else f"1/{float(f'{1 / value:.2g}'):,g}"


def draw(points: Sequence[Point], path: Path) -> None:
    """Writes the picture.

    Args:
      points: of the grid, dense training among them.
      path: an SVG file.
    """
    # Letters as outlines: the same on every machine. No date and no random ids: equal results give equal bytes.
    with mpl.rc_context({"svg.hashsalt": "three levers", "svg.fonttype": "path", "font.size": 10}):
        page = Figure(figsize=(10.0, 3.9), layout="constrained")
        page.patch.set_alpha(0.0)
        panels = page.subplots(1, 3, sharey=True)
        for axes, lever in zip(panels, PANELS, strict=True):
            _panel(axes, lever, points)
        panels[0].set_ylabel("test accuracy minus dense, points", color=INK)
        page.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def _panel(axes: Any, lever: str, points: Sequence[Point]) -> None:
    axes.set_xscale("log")
    axes.set_title(PANELS[lever], color=INK, loc="left", fontsize=11, fontweight="bold")
    # Labels stand on the left, where nothing is cheaper than all three.
    least, most = min(point.shares[lever] for point in points) / 1.4, 1.7
    left = most * math.exp(math.log(least / most) / (1 - LABELS))
    axes.set_xlim(left, most)
    extent = [p.gap + s * (0.0 if math.isnan(p.half) else p.half) for p in points for s in (-1, 1)]
    room = 0.12 * (max(extent) - min(extent)) or 1.0
    low, high = min(extent) - room, max(extent) + room
    axes.set_ylim(low, high)
    axes.plot([least, most], [0.0, 0.0], color=FAINT, linewidth=0.8, dashes=(4, 3), zorder=0)
    named = []
    for point in points:
        is_all = point.levers.count("+") == 2
        saves = point.shares[lever] < 0.9
        axes.errorbar(
            point.shares[lever],
            point.gap,
            yerr=None if math.isnan(point.half) else point.half,
            marker="*" if is_all else ("o" if point.levers in (*COLOURS, "") else "D"),
            markersize=15 if is_all else 7,
            color=colour(point.levers),
            alpha=1.0 if saves or not point.levers else 0.3,
            elinewidth=1.2,
            markeredgewidth=0,
            zorder=3 if is_all else 2,
        )
        if saves:
            named.append(point)
    heights = apart([point.gap for point in named], 0.075 * (high - low))
    for point, height in zip(named, heights, strict=True):
        is_all = point.levers.count("+") == 2
        name = "all three" if is_all else point.label
        axes.annotate(
            f"{name}  {_share(point.shares[lever])}" if is_all or point.levers == lever else name,
            (point.shares[lever], point.gap),
            (least * (left / most) ** 0.02, height),
            color=colour(point.levers),
            fontweight="bold" if is_all else "normal",
            fontsize=10 if is_all else 9,
            ha="right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkB": 6},
        )
    # Few, so that their labels have room.
    axes.set_xticks([1.0, next(tick for tick in TICKS if tick >= least)])
    axes.xaxis.set_major_formatter(FuncFormatter(_share))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(colors=INK, which="both", labelsize=9)
    axes.patch.set_alpha(0.0)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(FAINT)
