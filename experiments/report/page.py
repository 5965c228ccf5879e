"""A self-contained HTML page: its frame, its tables, its figures.

Nothing is fetched: style and script stand in the page, charts are SVG inside it. It works from a file.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.report import svg
from experiments.report.curves import Chart

_HERE = Path(__file__).parent


class Entry(NamedTuple):
    """One place of a table.

    Attributes:
      text: as shown.
      value: that it is sorted by; None for its text.
      mark: "best" or "" .
      is_html: whether the text is markup already.
    """

    text: str
    value: float | None = None
    mark: str = ""
    is_html: bool = False


def document(title: str, lede: str, body: Sequence[str]) -> str:
    """The whole page.

    Args:
      title: of the window and the heading.
      lede: a sentence or two of plain text below it.
      body: elements.

    Returns:
      HTML without links to other files.
    """
    style, script = ((_HERE / name).read_text() for name in ("style.css", "page.js"))
    parts = "\n".join(body)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>
{style}</style></head><body>
<main>
<header><h1>{html.escape(title)}</h1>
<p class="lede">{html.escape(lede)}</p></header>
{parts}
</main>
<script>
{script}</script>
</body></html>
"""


def section(title: str, body: Sequence[str], note: str = "") -> str:
    """A heading, a paragraph of plain text if there is one, and what stands below.

    Example:
      >>> print(section("Runs", ["<p>two</p>"]))
      <section><h2>Runs</h2>
      <p>two</p></section>
    """
    about = f'<p class="note">{html.escape(note)}</p>\n' if note else ""
    return f"<section><h2>{html.escape(title)}</h2>\n{about}" + "\n".join(body) + "</section>"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{html.escape(text)}</p>"


def details(title: str, body: Sequence[str]) -> str:
    """What is folded until someone asks; it is open in print."""
    return f"<details><summary>{html.escape(title)}</summary>\n" + "\n".join(body) + "</details>"


def warnings(title: str, sentences: Sequence[tuple[str, str]]) -> str:
    """A box that says what is wrong with which run.

    Args:
      title: of the box.
      sentences: (name of the run, what is wrong).
    """
    lines = "\n".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(text)}</li>" for name, text in sentences
    )
    return f'<aside class="warning"><h2>{html.escape(title)}</h2><ul>\n{lines}\n</ul></aside>'


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[Entry | str]],
    caption: str,
    numbers: Sequence[bool] = (),
    keys: Sequence[int] = (),
    sorted_by: int | None = None,
) -> str:
    """A table that is sorted by a click, or Enter, on a heading.

    Args:
      headings: of the columns.
      rows: entries; plain text may stand for one.
      caption: what the table is, for whoever cannot see it.
      numbers: which columns are; they stand on the right and are sorted from the largest.
      keys: number of the cell of every row; its lines in the charts light up with it.
      sorted_by: number of the column that the rows are already sorted by, best first.

    Returns:
      An element that scrolls by itself where the page is too narrow.
    """
    is_number = [*numbers, *[False] * (len(headings) - len(numbers))]

    def entry(value: Entry | str, right: bool) -> str:
        item = value if isinstance(value, Entry) else Entry(value)
        kinds = " ".join(filter(None, ["n" if right else "", item.mark]))
        kind = f' class="{kinds}"' if kinds else ""
        sort = f' data-value="{item.value!r}"' if item.value is not None else ""
        return f"<td{kind}{sort}>{item.text if item.is_html else html.escape(item.text)}</td>"

    def row(number: int, values: Sequence[Entry | str]) -> str:
        key = f' data-cell="{keys[number]}"' if keys else ""
        entries = "".join(entry(v, right) for v, right in zip(values, is_number, strict=True))
        return f"<tr{key}>{entries}</tr>"

    def head(number: int, name: str) -> str:
        kind = ' class="n"' if is_number[number] else ""
        # Scores may be better the higher or the lower; either way the next click turns the order round.
        order = f' aria-sort="{_order(rows, number)}"' if number == sorted_by else ""
        return (
            f'<th scope="col"{kind}{order}><button type="button">{html.escape(name)}</button></th>'
        )

    heads = "".join(head(number, name) for number, name in enumerate(headings))
    lines = "\n".join(row(number, values) for number, values in enumerate(rows))
    name = html.escape(caption, quote=True)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{name}"><table>\n'
        f"<caption>{name}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>"
    )


def _order(rows: Sequence[Sequence[Entry | str]], column: int) -> str:
    entries = [each[column] for each in rows]
    values = [item.value for item in entries if isinstance(item, Entry)]
    known = [value for value in values if value is not None]
    return "ascending" if known and known[0] < known[-1] else "descending"


def figures(charts: Sequence[Chart]) -> str:
    """Charts side by side, or below one another where there is no room."""
    return '<div class="figures">\n' + "\n".join(map(figure, charts)) + "\n</div>"


def figure(chart: Chart) -> str:
    """A chart below its title."""
    words = [
        f"over {chart.x_title.removesuffix('s')}s" if not chart.log_x else f"over {chart.x_title}",
        chart.subtitle,
        "logarithmic" if chart.log_y else "",
    ]
    part = f" <small>{html.escape(', '.join(filter(None, words)))}</small>"
    title = html.escape(chart.title[:1].upper() + chart.title[1:])
    return f"<figure><figcaption>{title}{part}</figcaption>{svg.draw(chart)}</figure>"


def strip(values: Sequence[float], low: float, high: float, style: int | None) -> str:
    """Every seed as a dot and the mean as a stroke, between the lowest and highest of a column."""
    width, height, edge = 120, 18, 5

    def at(value: float) -> float:
        return edge + (width - 2 * edge) * ((value - low) / (high - low) if high > low else 0.5)

    mean = at(sum(values) / len(values))
    dots = "".join(f'<circle cx="{at(value):.1f}" cy="{height / 2}" r="3"/>' for value in values)
    return (
        f'<svg class="strip {svg.colour(style)}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-hidden="true"><line class="grid" x1="{edge}" x2="{width - edge}" y1="{height / 2}" y2="{height / 2}"/>'
        f'{dots}<line class="mean" x1="{mean:.1f}" x2="{mean:.1f}" y1="2" y2="{height - 2}"/></svg>'
    )
