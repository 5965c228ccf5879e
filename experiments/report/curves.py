"""Charts of a group of cells: what is drawn, without saying how."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from experiments.report import quantity, read
from experiments.report.cells import Cell, Group, labels, shown

# More lines than this in one chart cannot be told apart.
MOST_LINES, MOST_PANELS = 8, 12
_MORE = ("density", "gradient_angle", "memory_norm", "compression_ratio")


@dataclasses.dataclass(frozen=True)
class Line:
    """One cell's curve, or one unfinished run's.

    Attributes:
      label: of the cell.
      key: number of the cell in its group: lines and rows of one cell belong together.
      x: [N] where it was measured.
      y: [N] means over seeds, as they are shown.
      spread: [N] sample standard deviations; empty for a single run.
      runs: how many.
      style: number of the colour and dash; None for a line that only stands in the background.
      is_whole: whether these are finished runs.
    """

    label: str
    key: int
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float]
    runs: int
    style: int | None
    is_whole: bool = True


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
      title: what is measured, with its unit.
      subtitle: of which part of the group; "" for all.
      x: what the axis counts, and the quantity for numbers on it.
      y: quantity of the values, factor already applied.
      lines: in drawing order.
      log_x: whether the axis is logarithmic.
      log_y: likewise.
    """

    title: str
    subtitle: str
    x_title: str
    x: quantity.Quantity
    y: quantity.Quantity
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False

    def alternative(self) -> str:
        """The chart in words: where each line ends."""
        ends = [
            f"{line.label} {quantity.text(self.y, line.y[-1])}"
            for line in self.lines
            if line.style is not None
        ]
        rest = len(self.lines) - len(ends)
        of_part = f" ({self.subtitle})" if self.subtitle else ""
        more = f"; {rest} more lines in grey" if rest else ""
        return f"{self.title}{of_part} over {self.x_title}. At the end: {', '.join(ends)}{more}."


def main_fields(group: Group) -> list[str]:
    """Fields of the histories that are worth a chart at first sight: scores of test and validation, a loss."""
    there = _fields(group)
    scores = [name for name in there if quantity.is_score(name) or name in ("test", "validation")]
    ranked = sorted(
        scores, key=lambda name: (name.startswith("validation"), name.startswith("train"))
    )
    losses = sorted(
        [name for name in there if name.endswith("loss")], key=lambda name: "train" not in name
    )
    return [*ranked[:1], *losses[:1], *ranked[1:2]]


def more_fields(group: Group) -> list[str]:
    """Those that may help to understand: densities, angles, memories."""
    there = [name for name in _fields(group) if name not in main_fields(group)]
    wanted = [name for start in _MORE for name in there if name.startswith(start)]
    return [name for name in wanted if _moves(group, name)]


def over_clock(group: Group, field: str) -> list[Chart]:
    """A field over steps (or what the histories count in), in as many panels as it takes."""
    return _charts(group, field, group.clock)


def over_bits(group: Group, field: str) -> list[Chart]:
    """A field over the bits sent so far, of the cells that count them."""
    return _charts(group, field, "bits_sent") or _charts(group, field, "bits")


def panels(group: Group) -> list[tuple[str, list[int]]]:
    """Cells by chart: one for all, or one for each value of as many settings as it takes.

    Args:
      group: of cells.

    Returns:
      (what the cells of a panel have in common, their numbers in the group).
    """
    everything = list(range(len(group.cells)))
    found = [("", everything)]

    def values(column: int) -> int:
        return len({repr(cell.settings[column]) for cell in group.cells})

    # What has few values splits; what has most is compared within a panel.
    for column in sorted(range(len(group.columns)), key=values)[:-1]:
        if max(len(members) for _, members in found) <= MOST_LINES:
            break
        split: list[tuple[str, list[int]]] = []
        for title, members in found:
            parts: dict[str, list[int]] = {}
            for number in members:
                parts.setdefault(
                    _part(group.columns[column], group.cells[number].settings[column]), []
                ).append(number)
            split += [
                (" · ".join(filter(None, [title, part])), each) for part, each in parts.items()
            ]
        if len(split) > MOST_PANELS:
            break
        if len(split) > len(found):  # Else it says what another setting has said already.
            found = split
    return found


def styles(group: Group) -> tuple[dict[int, int | None], dict[int, str]]:
    """Number of colour and dash of every cell, and its label within its panel.

    Cells that are called the same in several panels look the same there, as long as no two of a panel get
    one colour. Of a panel with many cells the best have one; None is for the others.
    """
    found: dict[int, int | None] = dict.fromkeys(range(len(group.cells)))
    panel_labels: dict[int, str] = {}
    for _, members in panels(group):
        known = [group.cells[number] for number in members if group.cells[number].is_known]
        names = iter(labels(group.columns, [cell.settings for cell in known]))
        for number in members:
            cell = group.cells[number]
            panel_labels[number] = next(names) if cell.is_known else cell.label
    order = list(dict.fromkeys(panel_labels[number] for number in range(len(group.cells))))
    for _, members in panels(group):
        best = sorted(best_last(group, members)[-MOST_LINES:])
        own = {number: order.index(panel_labels[number]) for number in best}
        if len({style % MOST_LINES for style in own.values()}) < len(own):
            own = {number: place for place, number in enumerate(best)}
        found |= own
    return found, panel_labels


def _part(column: str, value: Any) -> str:
    return f"{column.replace('_', ' ')} {shown(value)}"


def _charts(group: Group, field: str, clock: str) -> list[Chart]:
    style, names = styles(group)
    history = [
        float(record[field])
        for cell in group.cells
        for run in cell.runs
        for record in run.history
        if read.is_number(record.get(field))
    ]
    measured = group.quantity(field, history)
    charts = []
    for subtitle, members in panels(group):
        lines: list[Line] = []
        for number in best_last(group, members):
            lines += _lines(
                group.cells[number], number, names[number], field, clock, measured.factor
            )
        if not lines:
            continue
        lines = [dataclasses.replace(line, style=style[line.key]) for line in lines]
        values = [value for line in lines for value in line.y]
        log_y = (
            field.endswith(("loss", "perplexity"))
            and min(values) > 0
            and max(values) > 20 * min(values)
        )
        charts.append(
            Chart(
                title=measured.heading,
                subtitle=subtitle,
                x_title="bits sent" if clock.startswith("bits") else clock,
                x=quantity.of(clock) if clock.startswith("bits") else quantity.Quantity(clock),
                y=measured._replace(factor=1.0),
                lines=lines,
                log_x=clock.startswith("bits"),
                log_y=log_y,
            )
        )
    return charts


def best_last(group: Group, members: Sequence[int]) -> list[int]:
    """Numbers of cells, what has the best score last; before all others what has none."""
    means = {number: group.cells[number].mean_and_spread(group.score)[0] for number in members}
    sign = -1 if group.quantity(group.score).better == "lower" else 1
    return sorted(members, key=lambda n: -math.inf if means[n] is None else sign * (means[n] or 0))


def _lines(cell: Cell, key: int, label: str, field: str, clock: str, factor: float) -> list[Line]:
    """The mean curve of a cell's finished runs, and each unfinished one by itself."""
    found = []
    counted = [run for run in cell.runs if run.finished]
    if line := mean_line([run.history for run in counted], field, clock, factor):
        found.append(Line(label, key, *line, len(counted), None))
    for run in cell.runs:
        if not run.finished and (line := mean_line([run.history], field, clock, factor)):
            found.append(Line(f"{label} (unfinished)", key, *line, 1, None, False))
    return found


def mean_line(
    histories: Sequence[Sequence[Any]], field: str, clock: str, factor: float
) -> tuple[list[float], list[float], list[float]] | None:
    """Place, mean and spread of a field at the evaluations that all runs have.

    Args:
      histories: of each run its records.
      field: of the records.
      clock: field that says where they stand, such as "step" or "bits_sent", of which the mean is taken too.
      factor: what is shown over what is recorded.

    Returns:
      x [N], mean [N] and sample standard deviation [N] (empty for one run); None where nothing is in common.

    Example:
      >>> long, short = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], [{"step": 1, "loss": 4.0}]
      >>> mean_line([long, short], "loss", "step", 1.0)
      ([1.0], [3.0], [1.4142135623730951])
    """

    def place(record: Any) -> Any:
        return next((record[name] for name in read.CLOCKS if name in record), None)

    tables = [
        {
            place(record): record
            for record in history
            if read.is_number(record.get(field)) and read.is_number(record.get(clock))
        }
        for history in histories
    ]
    if not tables:
        return None
    places = [at for at in tables[0] if all(at in table for table in tables)]
    if clock.startswith("bits"):
        # Nothing sent yet has no place on a logarithmic axis.
        places = [at for at in places if all(table[at][clock] > 0 for table in tables)]
    if not places:
        return None
    x = [statistics.fmean(table[at][clock] for table in tables) for at in places]
    columns = [[factor * table[at][field] for table in tables] for at in places]
    spread = [statistics.stdev(column) for column in columns] if len(tables) > 1 else []
    return x, [statistics.fmean(column) for column in columns], spread


def _fields(group: Group) -> list[str]:
    found: dict[str, None] = {}
    for cell in group.cells:
        for run in cell.runs:
            for record in run.history:
                found |= dict.fromkeys(n for n, value in record.items() if read.is_number(value))
    return list(found)


def _moves(group: Group, field: str) -> bool:
    """Whether a field is anything but one number everywhere."""
    values = {
        round(float(record[field]), 9)
        for cell in group.cells
        for run in cell.runs
        for record in run.history
        if read.is_number(record.get(field))
    }
    return len(values) > 1
