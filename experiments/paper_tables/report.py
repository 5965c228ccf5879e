"""Tables and a picture from the result files alone.

    python -m experiments.paper_tables.report --out=experiments/paper_tables/results

Writes `tables.md` and `differences.png` beside the results; the tables of the results in this package also go into
the README.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments.markdown import difference, markdown, spread
from experiments.paper_tables import figure, runs
from experiments.paper_tables.results import SCORES, Cells, load, scores
from experiments.results import Record, main, publish
from experiments.statistics import paired_difference

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"


def table(part: runs.Part, cells: Cells) -> str:
    """The methods of a part; differences are to its first line, at the same seeds."""
    first = scores(part, cells[part.lines[0].key], "test") if part.lines[0].key in cells else {}
    rows: list[Sequence[str]] = []
    heading, cost = _costs(cells)
    for line in (line for line in part.lines if line.key in cells):
        mine = cells[line.key]
        test = scores(part, mine, "test")
        against = "" if line is part.lines[0] else difference(paired_difference(test, first))
        rows.append(
            [
                line.label,
                _mean(mine, cost),
                str(len(mine)),
                spread(scores(part, mine, "validation")),
                spread(test),
                against,
                spread({seed: record["summary"]["train_loss"] for seed, record in mine.items()}, 3),
            ]
        )
    name = SCORES[part.score][0]
    headings = ["method", heading, "seeds"]
    headings += [f"validation {name}", f"test {name}", "difference, 95%", "training loss"]
    return markdown(headings, rows)


def _costs(cells: Cells) -> tuple[str, Callable[[Record], str]]:
    """What the methods of a part save: its heading, and how it is read off a result file."""
    names = {name for each in cells.values() for r in each.values() for name in r["summary"]}
    if "bits_sent" in names:
        return "less sent", sent
    return ("live weights", live) if "density" in names else ("kept of output gradients", kept)


def live(record: Record) -> str:
    """Share of the maskable weights that are there at the end."""
    return f"{record['summary'].get('density', 1):.3g}"


def kept(record: Record) -> str:
    """Share of the entries of output gradients that pass backward, of the layers with a rule."""
    return f"{record['summary']['kept_fraction']:.3g}"


def sent(record: Record) -> str:
    """How many times fewer bits than dense gradients of every step."""
    summary = record["summary"]
    return f"x {summary['dense_bits'] / summary['bits_sent']:,.0f}"


def _mean(records: Mapping[int, Record], cost: Callable[[Record], str]) -> str:
    """The cost of all seeds; from the least to the most where they differ."""
    found = sorted({cost(record) for record in records.values()})
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def text(parts: Mapping[str, Cells]) -> str:
    """The tables under their headings."""
    blocks = []
    for name, cells in parts.items():
        part = runs.PARTS[name]
        used = next(iter(next(iter(cells.values())).values()))["summary"]
        length = f"{used['steps']:,} steps, {used['epochs']} epochs"
        heading = f"### {part.title} (`configs/{part.table}.py`; {length})"
        blocks.append(f"{heading}\n\n{table(part, cells)}\n")
    return "\n".join(blocks)


def write(out: Path) -> None:
    """Writes tables and a picture into the folder of the results, and the tables of our own into the README."""
    parts = load(out)
    figure.draw(parts, out / "differences.png")
    publish(text(parts), out, README)


if __name__ == "__main__":
    main("experiments.paper_tables", write, RESULTS)
