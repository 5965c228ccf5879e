"""How the demo shows its numbers: a table in the terminal, a page with plots."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import sent
from experiments.report import curves, quantity
from experiments.report import page as report_page
from experiments.report.curves import Chart, Line
from experiments.report.quantity import Quantity

Table = Mapping[str, Mapping[str, Mapping[str, float | None]]]
History = Sequence[Mapping[str, Any]]

HEADINGS = (
    "method",
    "test accuracy, %",
    "at best epoch, %",
    "kept fraction",
    "memory norm",
    "gradient angle, °",
    "of hidden_0, °",
    "ms per step",
)
# Behind the method's name.
FIELDS = (
    "test_accuracy",
    "test_accuracy_at_best",
    "kept_fraction",
    "memory_norm",
    "gradient_angle",
    "gradient_angle/hidden_0/kernel",
    "seconds_per_step",
)
PLOTTED = (
    "test_accuracy",
    "gradient_angle",
    "gradient_angle/hidden_0/kernel",
    "train_loss",
    "memory_norm",
)
# Of methods with a compressed exchange.
SENT_HEADINGS = (
    "method",
    "payload sent by a worker",
    "on the wire",
    "if dense",
    "compression ratio",
)


def cells(name: str, row: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """The texts of one line of the table, in the order of `HEADINGS`.

    Args:
      name: of the method.
      row: field of a run's summary -> {"mean", "std"} over seeds; an angle is in radians, a time in
        seconds.

    Returns:
      One text per heading; "mean ± std" where there is a spread to tell.
    """

    def text(field: str, factor: float, digits: int, spread: bool = True) -> str:
        mean, std = (row.get(field, {}).get(name) for name in ("mean", "std"))
        if mean is None or std is None:
            return "-"
        both = f"{factor * mean:.{digits}f}"
        return both + (f" ± {factor * std:.{digits}f}" if spread else "")

    return [
        name,
        text("test_accuracy", 100, 1),
        text("test_accuracy_at_best", 100, 1),
        text("kept_fraction", 1, 4, spread=False),
        text("memory_norm", 1, 3),
        text("gradient_angle", 180 / math.pi, 1),
        text("gradient_angle/hidden_0/kernel", 180 / math.pi, 1),
        text("seconds_per_step", 1000, 2),
    ]


def sent_rows(table: Table) -> list[list[str]]:
    """Lines under `SENT_HEADINGS`: means over seeds of the methods that have a compressed exchange.

    Example:
      >>> sent_rows({"dense": {}, "top-k": {"bits_sent": {"mean": 5e6, "std": 0.0}}})
      [['top-k', '5.00 Mbit (5,000,000)', '-', '-', '-']]
    """
    means = {
        name: {field: both["mean"] for field, both in row.items()} for name, row in table.items()
    }
    return [[name, *sent.texts(row)] for name, row in means.items() if sent.has_sent(row)]


def print_table(table: Table) -> None:
    """Prints the table, and what was sent where anything was."""
    _print_rows(HEADINGS, [cells(name, row) for name, row in table.items()])
    if rows := sent_rows(table):
        print()
        _print_rows(SENT_HEADINGS, rows)


def _print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Drawn by rich on a terminal, aligned columns elsewhere."""
    if sys.stdout.isatty():
        from rich import console
        from rich import table as rich_table

        drawn = rich_table.Table(*headings)
        for row in rows:
            drawn.add_row(*row)
        console.Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )


def chart(histories: Mapping[str, Sequence[History]], field: str) -> Chart | None:
    """One metric over steps: the mean over seeds, one standard deviation around it.

    Args:
      histories: method -> one history per seed.
      field: of the history's records; methods without it are left out.

    Returns:
      What is to be drawn; None where no method has the field.
    """
    known = {
        name: runs
        for name, runs in histories.items()
        if all(record.get(field) is not None for run in runs for record in run)
    }
    values = [record[field] for runs in known.values() for run in runs for record in run]
    measured = quantity.of(field, values)
    lines = []
    for key, name in enumerate(histories):
        drawn = curves.mean_line(known.get(name, ()), field, "step", measured.factor)
        if drawn is not None:
            lines.append(Line(name, key, *drawn, len(known[name]), key))
    shown = measured._replace(factor=1.0)
    return Chart(shown.heading, "", "step", Quantity("step"), shown, lines) if lines else None


def page(table: Table, histories: Mapping[str, Sequence[History]], facts: Mapping[str, Any]) -> str:
    """The report as one HTML text without links to other files."""
    numbers = [False, *[True] * (len(HEADINGS) - 1)]
    body = [
        report_page.table(
            HEADINGS, [entries(name, row) for name, row in table.items()], "Methods", numbers
        ),
        report_page.paragraph(
            "Mean ± sample standard deviation over seeds; plots: mean and one standard deviation. The gradient "
            "angle lies between the sparse gradient and the true one on the same training images, after each "
            "epoch: of all parameters as one vector, where the dense output layer weighs in, and of the first "
            "hidden layer's weights alone. The memory norm is that of the stored total of all layers. Times are "
            "of whole training steps on this machine."
        ),
    ]
    if rows := sent_rows(table):
        body.append(report_page.table(SENT_HEADINGS, rows, "What was sent"))
        body.append(
            report_page.paragraph(
                "Of one worker in a whole run, mean over seeds: payload bits as the papers count them, bytes of "
                "the messages with headers and padding, bits of the same updates uncompressed, and bits if dense "
                "over bits sent."
            )
        )
    charts = [chart(histories, field) for field in PLOTTED]
    body.append(report_page.figures([each for each in charts if each is not None]))
    body.append(report_page.paragraph(", ".join(f"{name}: {x}" for name, x in facts.items())))
    lede = (
        "An MLP 64-256-256-10 learns scikit-learn's handwritten digits. SBP lets only the few largest entries of "
        "each hidden layer's output gradient flow back; MSBP remembers the others and adds them at the next step."
    )
    methods = report_page.section("Methods compared", body)
    return report_page.document("Keep the largest entries, remember the rest", lede, [methods])


def entries(name: str, row: Mapping[str, Mapping[str, float | None]]) -> list[report_page.Entry]:
    """The same texts as `cells`, with the means that the page sorts them by."""
    means = [None, *(row.get(field, {}).get("mean") for field in FIELDS)]
    return [
        report_page.Entry(text, mean) for text, mean in zip(cells(name, row), means, strict=True)
    ]
