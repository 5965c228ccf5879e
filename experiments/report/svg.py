"""A chart as SVG inside the page: its colours are the page's, its text is text."""

import html
import itertools
import math
from collections.abc import Callable, Sequence

from experiments import sent
from experiments.report import quantity
from experiments.report.curves import Chart, Line

WIDTH, HEIGHT = 460, 290
# Widths of a character: of figures, and of bold text where fonts are wide.
_TOP, _BOTTOM, _FIGURE, _LETTER, _GAP = 10, 36, 6.9, 7.8, 14.5
_LONGEST_LABEL = 22
STYLES = 8  # Colours of the page; the ones after them come again with dashes.
# Colours of one chart are told apart by four and four: half of them are dashed.
UNFINISHED = "1 3"
_DASHES = ("", "7 4", "7 4 2 4", "3 3")


def draw(chart: Chart) -> str:
    """The `<svg>` element of a chart, with its lines labelled at their ends.

    Args:
      chart: with at least one line.

    Returns:
      An element that needs no other file; `role="img"` with the chart in words.
    """
    drawn = list(chart.lines)
    named = _one_label_each(drawn)
    texts = {id(line): short(line.label) for line in named}
    lows = [
        y - s
        for line in drawn
        for y, s in zip(line.y, line.spread or line.y, strict=True)
        if line.spread
    ]
    highs = [
        y + s
        for line in drawn
        for y, s in zip(line.y, line.spread or line.y, strict=True)
        if line.spread
    ]
    ys = [y for line in drawn for y in line.y]
    if chart.log_y:
        lows = []
    xs = [x for line in drawn for x in line.x]
    bottom, top = _range([*ys, *lows], [*ys, *highs], chart.log_y)
    left_x, right_x = _range(xs, xs, chart.log_x, 0.02 if chart.log_x else 0.0)
    if not chart.log_x:
        left_x = min(0.0, left_x)
    y_ticks = ticks(bottom, top, chart.log_y)
    y_texts = _tick_texts(y_ticks, chart.y)
    left = 8 + _FIGURE * max(map(len, y_texts))
    right = WIDTH - 10 - _LETTER * max((len(text) for text in texts.values()), default=0)
    at_x = _scale(left_x, right_x, left, right, chart.log_x)
    at_y = _scale(bottom, top, HEIGHT - _BOTTOM, _TOP, chart.log_y)
    parts = [_axes(chart, at_x, at_y, left, right, y_ticks, y_texts, (left_x, right_x))]
    parts += [_curve(line, chart, at_x, at_y) for line in drawn]
    ends = [(at_x(line.x[-1]), at_y(line.y[-1])) for line in named]
    places = spread_out([y for _, y in ends], _GAP, _TOP + 4, HEIGHT - _BOTTOM)
    for line, (x, y), place in zip(named, ends, places, strict=True):
        text = html.escape(texts[id(line)])
        tie = "" if abs(place - y) < 1 and right - x < 8 else _tie(x, y, right, place)
        parts.append(
            f'<g class="series {colour(line.style)}" data-cell="{line.key}">{tie}'
            f'<text class="label" x="{right + 8:.1f}" y="{place + 4:.1f}">{text}'
            f"<title>{html.escape(line.label)}</title></text></g>"
        )
    words = html.escape(chart.alternative(), quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers within a range.

    Example:
      >>> ticks(0.0, 390.0, log=False), ticks(2e3, 5e6, log=True)
      ([0.0, 100.0, 200.0, 300.0], [10000.0, 100000.0, 1000000.0])
    """
    from matplotlib import ticker

    if log:
        for subs in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            found = [s * 10.0**d for d in decades for s in subs if low <= s * 10.0**d <= high]
            if len(found) >= 3:
                return found[:: math.ceil(len(found) / 7)]
    locator = ticker.MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    inside = [float(tick) for tick in locator.tick_values(low, high)]
    # 0.1 + 0.2 is a hair above 0.3: what belongs to the edge stays.
    slack = 1e-9 * (high - low)
    return [tick for tick in inside if low - slack <= tick <= high + slack]


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least a gap apart: labels do not lie on one another.

    Example:
      >>> spread_out([50.0, 51.0, 10.0], 14.0, 0.0, 100.0)
      [43.5, 57.5, 10.0]
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1)) if len(wanted) > 1 else gap
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Blocks of touching labels, each centred on what its members want.
    blocks: list[list[int]] = []
    starts: list[float] = []
    for number in order:
        blocks.append([number])
        starts.append(min(max(wanted[number], low), high))
        while len(blocks) > 1 and starts[-2] + gap * len(blocks[-2]) > starts[-1]:
            last = blocks.pop()
            starts.pop()
            blocks[-1] += last
            ideal = sum(wanted[n] - gap * i for i, n in enumerate(blocks[-1])) / len(blocks[-1])
            starts[-1] = min(max(ideal, low), high - gap * (len(blocks[-1]) - 1))
    places = dict.fromkeys(range(len(wanted)), 0.0)
    for members, start in zip(blocks, starts, strict=True):
        places |= {number: start + gap * i for i, number in enumerate(members)}
    return [places[i] for i in range(len(wanted))]


def dash(style: int | None) -> str:
    """Dashes of a line style as SVG writes them; "" for a solid line."""
    return "" if style is None else _DASHES[style // (STYLES // 2) % len(_DASHES)]


def _one_label_each(lines: Sequence[Line]) -> list[Line]:
    """Lines that get a label: of a cell its mean, or its first unfinished run."""
    found: dict[int, Line] = {}
    for line in lines:
        if line.style is not None and (line.key not in found or line.is_whole):
            found[line.key] = line
    return list(found.values())


def short(label: str) -> str:
    """A label that has room beside a chart."""
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def colour(style: int | None) -> str:
    """The page's class for the colour of a line style."""
    return "back" if style is None else f"s{style % STYLES}"


def _range(
    lows: Sequence[float], highs: Sequence[float], log: bool, room: float = 0.05
) -> tuple[float, float]:
    low, high = min(lows), max(highs)
    if log:
        factor = (high / low) ** room if high > low else 2.0
        return low / factor, high * factor
    if high == low:
        return low - (abs(low) or 1.0) / 10, high + (abs(high) or 1.0) / 10
    return low - room * (high - low), high + room * (high - low)


def _scale(
    low: float, high: float, start: float, end: float, log: bool
) -> Callable[[float], float]:
    def transformed(value: float) -> float:
        return math.log(value) if log else value

    first, last = transformed(low), transformed(high)
    return lambda value: start + (transformed(value) - first) / (last - first) * (end - start)


def _tick_texts(values: Sequence[float], measured: quantity.Quantity) -> list[str]:
    """Alike many digits on all ticks of an axis."""
    if measured.style == "prefixed":
        return [_with_prefix(value, measured.unit) if value else "0" for value in values]
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    step = min(steps, default=abs(values[0]) if values else 1.0)
    digits = 0
    while digits < 6 and step and abs(round(step, digits) - step) > 1e-6 * step:
        digits += 1
    return [f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in values]


def _with_prefix(value: float, unit: str) -> str:
    power = sent.power(value)
    return f"{value / 1000.0**power:.3g} {sent.prefix(power)}{unit}"


def _axes(
    chart: Chart,
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
    left: float,
    right: float,
    y_ticks: Sequence[float],
    y_texts: Sequence[str],
    x_range: tuple[float, float],
) -> str:
    floor = HEIGHT - _BOTTOM
    parts = []
    for value, text in zip(y_ticks, y_texts, strict=True):
        y = at_y(value)
        parts.append(
            f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text class="tick end" x="{left - 6:.1f}" y="{y + 4:.1f}">{text}</text>')
    marks = ticks(*x_range, chart.log_x)
    texts = _tick_texts(marks, chart.x)
    # As many as have room.
    room = (right - left) / (_FIGURE * max((len(text) + 2 for text in texts), default=1))
    every = math.ceil(len(marks) / max(1.0, room))
    for value, text in list(zip(marks, texts, strict=True))[::every]:
        x = at_x(value)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        )
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{floor + 17}">{text}</text>')
    parts.append(f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{floor}" y2="{floor}"/>')
    parts.append(
        f'<text class="tick title" x="{(left + right) / 2:.1f}" y="{HEIGHT - 3}">{html.escape(chart.x_title)}</text>'
    )
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


def _curve(
    line: Line, chart: Chart, at_x: Callable[[float], float], at_y: Callable[[float], float]
) -> str:
    points = [(at_x(x), at_y(y)) for x, y in zip(line.x, line.y, strict=True)]
    parts = []
    if line.spread:
        least = min(line.y) / 100 if chart.log_y else -math.inf
        above = [(p[0], at_y(y + s)) for p, y, s in zip(points, line.y, line.spread, strict=True)]
        below = [
            (p[0], min(at_y(max(y - s, least)), HEIGHT - _BOTTOM))
            for p, y, s in zip(points, line.y, line.spread, strict=True)
        ]
        if line.style is not None:
            parts.append(f'<path class="band" d="M{_path([*above, *reversed(below)])}Z"/>')
    dashes = dash(line.style) if line.is_whole else UNFINISHED
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    parts.append(f'<path class="line" d="M{_path(points)}"{pattern}/>')
    if line.style is not None:
        spreads: Sequence[float | None] = line.spread or [None] * len(line.y)
        radius = 2.6 if len(points) <= 25 else 0.0
        # Of a long curve as many points tell their value as a hand can aim at.
        told_at = {len(points) - 1, *range(0, len(points), math.ceil(len(points) / 60))}
        for i, (x, y) in enumerate(points):
            if i not in told_at:
                continue
            value = quantity.text(chart.y, line.y[i], spreads[i])
            place = quantity.text(chart.x, line.x[i]) if chart.log_x else f"{line.x[i]:,.0f}"
            told = f"{line.label}, {chart.x_title} {place}: {value}"
            dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' if radius else ""
            hover = f'<circle class="hover" cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
            parts.append(f"<g>{dot}{hover}<title>{html.escape(told)}</title></g>")
    else:
        parts.append(f"<title>{html.escape(line.label)}</title>")
    return f'<g class="series {colour(line.style)}" data-cell="{line.key}">{"".join(parts)}</g>'


def _tie(x: float, y: float, right: float, place: float) -> str:
    """From where a line ends to its label."""
    return f'<path class="tie" d="M{x + 4:.1f},{y:.1f} L{right + 5:.1f},{place:.1f}"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
