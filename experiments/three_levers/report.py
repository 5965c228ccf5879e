"""Table and figure from the result files alone.

    python -m experiments.three_levers.report --out=experiments/three_levers/results

Writes `tables.md` and `three_levers.svg` beside the results; the table of the results in this package also goes into
its README, and into that of the project.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.markdown import difference, markdown, spread
from experiments.results import Record, embed_between, main, publish, read
from experiments.statistics import mean_and_std, paired_difference
from experiments.three_levers import figure, runs

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
PROJECT = Path(__file__).parents[2] / "README.md"
MARKS = (
    "<!-- three levers: written by experiments/three_levers/report.py -->",
    "<!-- end of three levers -->",
)
NAMES = {"backward": "MSBP", "compress": "SBC", "masks": "C-GaP"}
# Seed -> content of a result file.
Seeds = Mapping[int, Record]
Cells = Mapping[tuple[str, float | None], Seeds]


def load(out: Path) -> list[Record]:
    """The longest runs of a folder.

    Raises:
      ValueError: none there.
    """
    records = read(out, "python -m experiments.three_levers")
    longest = max(record["epochs"] for record in records)
    return [record for record in records if record["epochs"] == longest]


def cells(records: Sequence[Record]) -> dict[tuple[str, float | None], dict[int, Record]]:
    """(levers, density of the exchange) -> seed -> record, in the order of the grid."""
    found: dict[tuple[str, float | None], dict[int, Record]] = {}
    for run in runs.grid(seeds=1):
        mine = [r for r in records if (r["levers"], r["density"]) == (run.levers, run.density)]
        if mine:
            found[run.levers, run.density] = {record["seed"]: record for record in mine}
    return found


def label(cell: tuple[str, float | None]) -> str:
    """What a row is called.

    Example:
      >>> label(("", None)), label(("backward+compress+masks", 0.05))
      ('dense', 'MSBP + SBC + C-GaP, SBC at 5%')
    """
    levers, density = cell
    name = " + ".join(NAMES[lever] for lever in levers.split("+")) if levers else "dense"
    return name if density is None else f"{name}, SBC at {100 * density:g}%".replace("0.", ".")


def accuracies(mine: Seeds) -> dict[int, float]:
    """Seed -> test accuracy at the end, per cent."""
    return {seed: 100 * record["test_accuracy"] for seed, record in mine.items()}


def shares(mine: Seeds) -> dict[str, float]:
    """Each cost as a share of dense training's, mean over seeds."""
    each = {
        "backward": [
            r["backward_flops"]["needed"] / r["backward_flops"]["dense"] for r in mine.values()
        ],
        "compress": [r["bits_sent"] / r["dense_bits"] for r in mine.values()],
        "masks": [r["live_weights"] / r["weights"] for r in mine.values()],
    }
    return {lever: mean_and_std(values)[0] for lever, values in each.items()}


def times(share: float) -> str:
    """How often a cost goes into dense training's.

    Example:
      >>> times(1.0), times(0.1), times(1 / 3900)
      ('1', '1/10', '1/3,900')
    """
    if share > 0.995:
        return "1"
    return f"1/{1 / share:.1f}".removesuffix(".0") if share > 0.05 else f"1/{1 / share:,.0f}"


def table(found: Cells) -> str:
    """Accuracy and the three costs of every cell."""
    dense = accuracies(found.get(("", None), {}))
    rows = []
    for cell, mine in found.items():
        ours, cost = accuracies(mine), shares(mine)
        first = next(iter(mine.values()))
        versus = "-" if cell == ("", None) else difference(paired_difference(ours, dense))
        bits = mean_and_std([record["bits_sent"] for record in mine.values()])[0]
        rows.append(
            [
                f"**{label(cell)}**" if cell == (runs.ALL, None) else label(cell),
                str(len(mine)),
                spread(ours),
                versus,
                f"{first['backward_flops']['needed'] / 1e12:.3f} ({times(cost['backward'])})",
                f"{bits / 1e6:,.1f} ({times(cost['compress'])})",
                f"{first['live_weights']:,} ({times(cost['masks'])})",
            ]
        )
    headings = ["levers", "seeds", "test accuracy, %", "minus dense", "backward, TFLOP"]
    return markdown([*headings, "sent, Mbit", "live weights"], rows)


def setting(found: Cells) -> str:
    """One line above the table."""
    first = next(iter(next(iter(found.values())).values()))
    return f"LeNet-300-100 on MNIST, 4 workers, {first['epochs']} epochs of {first['steps'] // first['epochs']} steps"


def text(records: Sequence[Record]) -> str:
    """Table, and what the workers agreed upon."""
    found = cells(records)
    agreed = all(record["workers_agree"] for record in records)
    dead = {
        label(cell): mean_and_std([float(r["dead_units"]) for r in mine.values()])[0]
        for cell, mine in found.items()
        if "masks" in cell[0]
    }
    lines = [
        f"### {setting(found)}\n\n{table(found)}\n",
        "Means over seeds, ± standard deviation; differences are paired by seed, with 95% intervals. Costs of the "
        "whole run and all workers, in brackets as a share of dense training's; live weights are those at the end.",
        "",
        "Masks and anchors of the four workers are the same to the bit at the end of "
        f"{'every run' if agreed else 'NOT every run'}.",
    ]
    if dead:
        each = ", ".join(f"{name} {count:.0f}" for name, count in dead.items())
        lines.append(f"Hidden units without a live weight below them, of 400: {each}.")
    return "\n".join([*lines, ""])


def headline(found: Cells) -> str:
    """What the project's README shows: the cells of the grid, without variants."""
    return f"{setting(found)}:\n\n{table({cell: mine for cell, mine in found.items() if cell[1] is None})}"


def write(out: Path) -> None:
    """Writes table and figure into the folder of the results, and those of our own into both READMEs."""
    records = load(out)
    found = cells(records)
    publish(text(records), out, README)
    dense = accuracies(found.get(("", None), {}))
    points = []
    for cell, mine in found.items():
        if cell[1] is None and dense:
            gap = paired_difference(accuracies(mine), dense).mean
            # Intervals of few seeds are too long for a picture: those are in the table.
            bar = mean_and_std(list(accuracies(mine).values()))[1]
            points.append(figure.Point(cell[0], label(cell), gap, bar, shares(mine)))
    figure.draw(points, out / "three_levers.svg")
    if out.resolve() == RESULTS.resolve():
        embed_between(PROJECT, headline(found), MARKS)


if __name__ == "__main__":
    main("experiments.three_levers", write, RESULTS)
