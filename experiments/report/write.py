"""The report of some runs: which tables and charts stand on the page, and as pictures beside it."""

import collections
import datetime
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import sparsetrain
from experiments.report import curves, page, png, quantity, svg
from experiments.report.cells import Cell, Group, groups, shown
from experiments.report.curves import Chart
from experiments.report.page import Entry
from experiments.report.read import Run
from sparsetrain.training.metrics import replace_text

# After the score, as far as there is anything to tell.
COLUMNS = (
    "train_loss",
    "loss",
    "bits_sent",
    "bits",
    "wire_bytes",
    "bytes_up",
    "bytes_down",
    "compression_ratio",
    "kept_fraction",
    "backward_flops",
    "mflops",
    "density",
    "final_density",
    "gradient_angle",
    "seconds_per_step",
)
_FILTERED = 12  # Rows from which on there is a field to filter them.


def write(runs: Sequence[Run], out: Path) -> Path:
    """Writes `report.html` and a PNG of every chart of a group's scores and losses.

    Args:
      runs: at least one.
      out: folder, made if absent; pictures of an earlier report stay unless they have the same names.

    Returns:
      Path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = groups(runs)
    for number, group in enumerate(found):
        before = f"{number + 1}_" if len(found) > 1 else ""
        for name, charts in _main_charts(group).items():
            for place, chart in enumerate(charts):
                after = f"_{place + 1}" if len(charts) > 1 else ""
                png.write(chart, out / f"{before}{name}{after}.png")
    path = out / "report.html"
    replace_text(path, text(runs, found))
    return path


def text(runs: Sequence[Run], found: Sequence[Group]) -> str:
    """The page.

    Args:
      runs: all of them.
      found: the same by groups.
    """
    cells = sum(len(group.cells) for group in found)
    unfinished = sum(not run.finished for run in runs)
    today = datetime.datetime.now(datetime.UTC).date()
    lede = (
        f"{_count(len(runs), 'run')} of {_count(cells, 'setting')}"
        + (f", {unfinished} unfinished" if unfinished else "")
        + f". Written on {today.day} {today:%B %Y} by sparsetrain {sparsetrain.__version__}."
    )
    body = []
    troubled = [(run.name, "; ".join(run.notes)) for run in runs if run.notes]
    troubled += [
        (cell.label, f"seed {shown(seed)} is there {count} times, and every time counts")
        for group in found
        for cell in group.cells
        for seed, count in collections.Counter(run.seed for run in cell.counted).items()
        if count > 1
    ]
    if troubled:
        body.append(page.warnings(f"{_count(len(troubled), 'thing')} to look at", troubled))
    body += [_of_group(group, len(found) > 1) for group in found]
    body.append(_all_runs(runs))
    return page.document("Runs compared", lede, body)


def _of_group(group: Group, named: bool) -> str:
    title = _title(group) if named else "Settings compared"
    charts = _main_charts(group)
    body = [_table(group)]
    if len(group.cells) >= _FILTERED:
        body.insert(
            0,
            '<label class="filter">Filter <input type="search" placeholder="words of a row"></label>',
        )
    # Of many panels only the score is seen at first sight.
    sets = list(charts.values())
    first = sets if max(map(len, sets), default=0) <= 2 else sets[:1]
    more = [curves.over_clock(group, field) for field in curves.more_fields(group)]
    for heading, some in (("", first), ("More curves", sets[len(first) :] + more)):
        if drawn := [chart for each in some for chart in each]:
            shown_charts = page.figures(drawn)
            body.append(page.details(heading, [shown_charts]) if heading else shown_charts)
    if group.shared:
        body.append(page.details("Settings that do not differ", [_facts(group.shared)]))
    return page.section(title, body, _legend(group))


def _main_charts(group: Group) -> dict[str, list[Chart]]:
    """File name -> charts that are seen at first sight."""
    fields = curves.main_fields(group)
    found = {
        f"{field}_over_{group.clock}".replace("/", "_"): curves.over_clock(group, field)
        for field in fields
    }
    for field in fields[:1]:
        found[f"{field}_over_bits".replace("/", "_")] = curves.over_bits(group, field)
    return {name: charts for name, charts in found.items() if charts}


def _title(group: Group) -> str:
    path = Path(group.title)
    score = group.quantity(group.score).title if group.score else "no score"
    return f"Runs, {score}" if group.title == "runs" else path.name


def _legend(group: Group) -> str:
    """What the numbers of a table are."""
    seeds = [len(cell.counted) for cell in group.cells]
    parts = []
    if max(seeds) > 1:
        parts.append(
            "Mean ± sample standard deviation over seeds; bands show the same. Dots are single seeds, "
            "the stroke their mean."
        )
    else:
        parts.append(
            "One seed each: there is no spread to tell how much of a difference is chance."
        )
    if group.score and group.quantity(group.score).better:
        parts.append("★ marks the best mean, which need not be a significant one.")
    if any(cell.values("bits_sent") for cell in group.cells):
        parts.append("Bits sent are the totals of all workers.")
    return " ".join(parts)


def _table(group: Group) -> str:
    fields = _columns(group)
    score = group.score if group.score in fields else ""
    settings, (style, _) = _setting_columns(group), curves.styles(group)
    best = _best(group, score)
    everything = [value for cell in group.cells for value in cell.values(score)]
    columns: list[tuple[str, bool]] = [("setting", False)]
    for field in fields:
        columns.append((group.quantity(field).heading, True))
        if field == score:
            columns += [("each seed", False), ("seeds", True)]
    if not score:
        columns.append(("seeds", True))
    columns += [(group.columns[i], _is_numeric(group, i)) for i in settings]
    rows = []
    for key, cell in enumerate(group.cells):
        row = [_name(cell, style[key])]
        seeds = Entry(str(len(cell.counted)), len(cell.counted))
        for field in fields:
            mean, std = cell.mean_and_spread(field)
            shown_text = quantity.text(group.quantity(field), mean, std)
            if not any(run.finished for run in cell.runs) and mean is not None:
                shown_text += " so far"
            row.append(Entry(shown_text, mean, "best" if field == score and key == best else ""))
            if field == score:
                dots = cell.values(score)
                drawn = (
                    page.strip(dots, min(everything), max(everything), style[key]) if dots else ""
                )
                row += [Entry(drawn, mean, is_html=True), seeds]
        rows.append(
            [*row, *([] if score else [seeds]), *(_setting(cell.settings[i]) for i in settings)]
        )
    headings, numbers = [name for name, _ in columns], [right for _, right in columns]
    order = curves.best_last(group, range(len(rows)))[::-1]
    return page.table(
        headings,
        [rows[key] for key in order],
        f"{_title(group)}: a row for every setting",
        numbers,
        order,
        headings.index(group.quantity(score).heading) if score else None,
    )


def _columns(group: Group) -> list[str]:
    """Fields that the table shows: scores of test data and what there is of `COLUMNS`."""
    there = group.fields()
    tested = [name for name in there if quantity.is_score(name)]
    wanted = [name for name in tested if "test" in name or name == group.score][:3]
    wanted = wanted or tested[:2]
    found = [*wanted, *(name for name in COLUMNS if name in there and _tells(group, name))]
    # One column for the traffic is enough beside the ratio.
    return [
        name for name in found if name != "wire_bytes" or not {"bits_sent", "bits"} & set(found)
    ]


def _tells(group: Group, field: str) -> bool:
    """Whether a column has anything but the value of dense training everywhere."""
    values = {value for cell in group.cells for value in cell.values(field)}
    return bool(values - {0.0, 1.0})


def _setting_columns(group: Group) -> list[int]:
    """Numbers of the settings that the label does not say already; a person reads no more than a few."""
    said = [i for i, name in enumerate(group.columns) if not _is_said(group, i)]
    return said[:5]


def _is_said(group: Group, column: int) -> bool:
    known = [cell for cell in group.cells if cell.settings[column] not in (None, "none", "dense")]
    return all(
        shown(cell.settings[column]) in cell.label.replace(" · ", " ").split()
        or shown(cell.settings[column]) in cell.label
        for cell in known
    )


def _is_numeric(group: Group, column: int) -> bool:
    values = [cell.settings[column] for cell in group.cells if cell.settings[column] is not None]
    return all(isinstance(value, int | float) for value in values)


def _setting(value: object) -> Entry:
    number = float(value) if isinstance(value, int | float) else None
    return Entry(shown(value), number)


def _name(cell: Cell, style: int | None) -> Entry:
    left = sum(not run.finished for run in cell.runs)
    tag = f'<span class="tag">{left} unfinished</span>' if left else ""
    mark = f'<span class="key {svg.colour(style)}"></span>'
    return Entry(f"{mark}{html.escape(cell.label)}{tag}", is_html=True)


def _best(group: Group, score: str) -> int | None:
    """Number of the finished cell with the best mean; None where none is better than the others."""
    better = group.quantity(score).better if score else ""
    means = {
        key: mean
        for key, cell in enumerate(group.cells)
        if any(run.finished for run in cell.runs)
        and (mean := cell.mean_and_spread(score)[0]) is not None
    }
    if not better or len(means) < 2:
        return None
    return (max if better == "higher" else min)(means, key=lambda key: means[key])


def _facts(settings: Iterable[str] | dict[str, object] | object) -> str:
    assert isinstance(settings, dict)
    pairs = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(shown(value))}</dd>"
        for name, value in settings.items()
    )
    return f"<dl>{pairs}</dl>"


def _all_runs(runs: Sequence[Run]) -> str:
    rows = [
        [
            Entry(run.name),
            Entry(shown(run.seed), run.seed if isinstance(run.seed, int) else None),
            Entry(str(len(run.history)), len(run.history)),
            Entry("finished" if run.finished else "unfinished"),
            Entry("; ".join(run.notes), mark="wide"),
        ]
        for run in runs
    ]
    headings = ["run", "seed", "evaluations", "state", "remarks"]
    numbers = [False, True, True, False, False]
    return page.details(
        f"All {_count(len(runs), 'run')}", [page.table(headings, rows, "All runs", numbers)]
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
