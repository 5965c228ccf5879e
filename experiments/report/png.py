"""The same chart as a PNG, for slides and issues."""

from pathlib import Path

from experiments.report import svg
from experiments.report.curves import Chart

# The page's colours on white, see style.css.
COLOURS = ("#0067a8", "#c2410c", "#00795a", "#a02c7a", "#8a6100", "#4b4fc7", "#0f7a94", "#4a4d52")
_BACK = "#c4c1ba"


def write(chart: Chart, path: Path) -> None:
    """Draws a chart.

    Args:
      chart: with at least one line.
      path: of the PNG, 1280 x 800 points.
    """
    from matplotlib.figure import Figure  # Not pyplot: no display and no global state.

    figure = Figure(figsize=(6.4, 4.0), dpi=200, layout="constrained")
    axes = figure.subplots()
    named: dict[int, tuple[str, str, float]] = {}
    for line in chart.lines:
        colour = _BACK if line.style is None else COLOURS[line.style % len(COLOURS)]
        lengths = svg.dash(line.style) if line.is_whole else svg.UNFINISHED
        dashes = (0, tuple(float(each) / 2 for each in lengths.split())) if lengths else "-"
        marker = "." if len(line.x) <= 25 and line.style is not None else ""
        axes.plot(line.x, line.y, color=colour, linestyle=dashes, marker=marker, linewidth=1.5)
        if line.spread and line.style is not None:
            low = [y - s for y, s in zip(line.y, line.spread, strict=True)]
            high = [y + s for y, s in zip(line.y, line.spread, strict=True)]
            axes.fill_between(line.x, low, high, color=colour, alpha=0.14, linewidth=0)
        if line.style is not None and (line.key not in named or line.is_whole):
            named[line.key] = (line.label, colour, line.y[-1])
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    title = f"{chart.title} ({chart.subtitle})" if chart.subtitle else chart.title
    title = title[:1].upper() + title[1:]
    axes.set_title(title, loc="left", fontsize=11)
    unit = f", {chart.x.unit}" if chart.x.unit else ""
    axes.set_xlabel(chart.x_title + unit)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()
    # Labels at the right edge, in the heights that the lines end at, as far apart as they need.
    height = axes.bbox.height
    at = axes.transAxes.inverted().transform
    wanted = [at(axes.transData.transform((1.0, end)))[1] for *_, end in named.values()]
    places = svg.spread_out(
        wanted, 0.055 * 500 / max(height, 1) if height < 500 else 0.055, 0.0, 1.0
    )
    for (label, colour, _), place in zip(named.values(), places, strict=True):
        axes.annotate(
            svg.short(label),
            (1.01, place),
            xycoords="axes fraction",
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
        )
    figure.savefig(path, metadata={"Title": title, "Description": chart.alternative()})
