"""How the demo shows its numbers: a table in the terminal, a page with plots."""

import base64
import html
import io
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import sent

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


def plot(
    histories: Mapping[str, Sequence[History]], field: str, label: str, factor: float = 1.0
) -> str:
    """An SVG drawing of one metric over steps: the mean over seeds, one standard deviation around it.

    Args:
      histories: method -> one history per seed.
      field: of the history's records; methods without it are left out.
      label: of the vertical axis.
      factor: unit of the axis over unit of the record.

    Returns:
      An `<img>` element that needs no other file.
    """
    from matplotlib.figure import Figure  # Not pyplot: no display and no global state.

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, runs in histories.items():
        if any(record.get(field) is None for run in runs for record in run):
            continue
        values = [[float(record[field]) for record in run] for run in runs]
        steps = [record["step"] for record in runs[0]]
        mean, spread = factor * np.mean(values, axis=0), factor * np.std(values, axis=0)
        (line,) = axes.plot(steps, mean, label=name)
        axes.fill_between(steps, mean - spread, mean + spread, color=line.get_color(), alpha=0.2)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(label)}" src="data:image/svg+xml;base64,{data}">'


def page(table: Table, histories: Mapping[str, Sequence[History]], facts: Mapping[str, Any]) -> str:
    """The report as one HTML text without links to other files."""

    def line(texts: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    body = "\n".join(line(cells(name, row), "td") for name, row in table.items())
    traffic = ""
    if rows := sent_rows(table):
        lines = "\n".join(line(row, "td") for row in rows)
        traffic = f"""<table>
{line(SENT_HEADINGS, "th")}
{lines}
</table>
<p>Of one worker in a whole run, mean over seeds: payload bits as the papers count them, bytes of the
messages with headers and padding, bits of the same updates uncompressed, and bits if dense over bits
sent.</p>
"""
    plots = "\n".join(
        plot(histories, field, label, factor)
        for field, label, factor in (
            ("test_accuracy", "test accuracy, %", 100.0),
            ("gradient_angle", "gradient angle, degrees", 180 / math.pi),
            (
                "gradient_angle/hidden_0/kernel",
                "gradient angle of the first hidden layer, degrees",
                180 / math.pi,
            ),
            ("train_loss", "training loss, nats", 1.0),
            ("memory_norm", "memory norm", 1.0),
        )
    )
    listed = ", ".join(f"{html.escape(name)}: {html.escape(str(x))}" for name, x in facts.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>sparsetrain demo</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .3em .8em; border-bottom: 1px solid #ccc; text-align: left; }}
img {{ max-width: 100%; }}
</style></head><body>
<h1>Keep the largest entries, remember the rest</h1>
<p>An MLP 64-256-256-10 learns scikit-learn's handwritten digits. SBP lets only the few largest entries
of each hidden layer's output gradient flow back; MSBP remembers the others and adds them at the next
step.</p>
<table>
{line(HEADINGS, "th")}
{body}
</table>
<p>Mean ± sample standard deviation over seeds; plots: mean and one standard deviation. The gradient
angle lies between the sparse gradient and the true one on the same training images, after each
epoch: of all parameters as one vector, where the dense output layer weighs in, and of the first
hidden layer's weights alone. The memory norm is that of the stored total of all layers. Times are
of whole training steps on this machine.</p>
{traffic}<p>{listed}</p>
{plots}
</body></html>
"""
