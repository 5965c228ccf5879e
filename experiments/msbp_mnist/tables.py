"""Results as markdown tables."""

from collections.abc import Callable, Mapping

from experiments.markdown import difference, markdown, spread
from experiments.msbp_mnist.results import Cell, Cells, Record, pick, values
from experiments.statistics import mean_and_std, paired_difference

AT_BEST, AT_END = "test_accuracy_at_best", "test_accuracy"

# Test accuracy in per cent, (method, k) -> tables 2 (h = 500) and 5 (h = 5000) of the paper.
PAPER = {
    500: {("dense", None): 97.86, ("sbp", 20): 97.84, ("msbp", 20): 98.23},
    5000: {
        ("dense", None): 98.10,
        ("sbp", 5): 96.19,
        ("msbp", 5): 97.71,
        ("sbp", 10): 96.22,
        ("msbp", 10): 98.16,
    },
}
ORDER = (
    "dense",
    "sbp",
    "msbp",
    "adaptive",
    "union_rows",
    "unified",
    "grouped",
    "unified_rows",
)


def angle(runs: Mapping[int, Record], name: str) -> str:
    """Mean angles in degrees: memory moving / memory held; one number where there is no memory."""
    moving, held = (
        f"{mean_and_std(list(values(runs, f'{kind} {name}').values()))[0]:.1f}"
        for kind in ("angles_moving", "angles")
    )
    remembers = any(record["angles_moving"] for record in runs.values())
    return f"{moving} / {held}" if remembers else held


def sort_key(cell: Cell) -> tuple[int, int, float]:
    """Dense first, then from many kept entries to few, then by method."""
    return (-(cell.kept or cell.hidden), ORDER.index(cell.method), cell.decay)


def twin(cells: Cells, cell: Cell, method: str) -> Mapping[int, Record]:
    """Runs of another method at the same k, epochs and width; empty where there are none."""
    kept = None if method == "dense" else cell.kept
    return cells.get(cell._replace(method=method, kept=kept, decay=0.0), {})


def accuracy(cells: Cells, hidden: int, epochs: int) -> str:
    """Tables 2 and 5: test accuracy at the best dev epoch and at the end, beside the paper's.

    Args:
      cells: as from `results.load`.
      hidden: width, 500 for table 2 and 5000 for table 5.
      epochs: length of the runs.
    """
    chosen = pick(cells, lambda cell: (cell.hidden, cell.epochs) == (hidden, epochs))
    rows = []
    for cell in sorted(chosen, key=sort_key):
        runs = chosen[cell]
        paper = PAPER.get(hidden, {}).get((cell.method, cell.kept))
        rows.append(
            [
                cell.label,
                str(cell.kept or "all"),
                str(len(runs)),
                spread(values(runs, AT_BEST, 100)),
                spread(values(runs, AT_END, 100)),
                f"{paper:.2f}" if paper else "-",
            ]
        )
    return markdown(["method", "k", "seeds", "at best dev epoch", "at the end", "paper"], rows)


def differences(cells: Cells, hidden: int, epochs: int) -> str:
    """Paired differences to dense and to SBP in points of accuracy, with 95% intervals.

    Args:
      cells: as from `results.load`.
      hidden: width.
      epochs: length of the runs.
    """
    chosen = pick(cells, lambda cell: (cell.hidden, cell.epochs) == (hidden, epochs))
    rows = []
    for cell in sorted(chosen, key=sort_key):
        if cell.method == "dense":
            continue
        row = [cell.label, str(cell.kept)]
        for method in ("dense", "sbp"):
            for field in (AT_BEST, AT_END):
                if method == cell.method:
                    row.append("-")
                    continue
                other = values(twin(cells, cell, method), field, 100)
                row.append(difference(paired_difference(values(chosen[cell], field, 100), other)))
        rows.append(row)
    headings = ["method", "k", "minus dense, best dev", "minus dense, end"]
    return markdown([*headings, "minus SBP, best dev", "minus SBP, end"], rows)


def diagnostics(cells: Cells, hidden: int, epochs: int) -> str:
    """What else the runs measured: angles, memory, loss and time.

    Args:
      cells: as from `results.load`.
      hidden: width.
      epochs: length of the runs.
    """
    chosen = pick(cells, lambda cell: (cell.hidden, cell.epochs) == (hidden, epochs))
    columns: dict[str, Callable[[Mapping[int, Record]], str]] = {
        "kept fraction": lambda runs: (
            f"{mean_and_std(list(values(runs, 'kept_fraction').values()))[0]:.3f}"
        ),
        "angle": lambda runs: angle(runs, "all"),
        "angle, first kernel": lambda runs: angle(runs, "hidden_0/kernel"),
        "angle, second kernel": lambda runs: angle(runs, "hidden_1/kernel"),
        "memory norm": lambda runs: spread(values(runs, "memory_norm"), 3),
        "training loss": lambda runs: spread(values(runs, "train_loss"), 4),
    }
    rows = [
        [cell.label, str(cell.kept or "all"), *(text(chosen[cell]) for text in columns.values())]
        for cell in sorted(chosen, key=sort_key)
    ]
    return markdown(["method", "k", *columns], rows)


def figures(cells: Cells, epochs: int) -> str:
    """Numbers of the figures: a line per k and decay.

    Args:
      cells: as from `results.load`.
      epochs: length of the figures' runs.
    """
    chosen = pick(cells, lambda cell: cell.hidden == 500 and cell.epochs == epochs)
    rows = []
    for cell in sorted(chosen, key=sort_key):
        runs = chosen[cell]
        ours = values(runs, AT_END, 100)
        versus = "-"
        if cell.method == "msbp":
            versus = difference(
                paired_difference(ours, values(twin(cells, cell, "sbp"), AT_END, 100))
            )
        rows.append(
            [
                str(cell.kept or "all"),
                "-" if cell.kept is None else f"{cell.decay:g}",
                str(len(runs)),
                spread(ours),
                versus,
                angle(runs, "all"),
                angle(runs, "hidden_0/kernel"),
                angle(runs, "hidden_1/kernel"),
            ]
        )
    headings = ["k", "decay", "seeds", "test accuracy, %", "minus SBP", "angle"]
    return markdown([*headings, "angle, first kernel", "angle, second kernel"], rows)


def beyond(cells: Cells, epochs: int) -> str:
    """Our extensions beside what they extend, paired by seed.

    Args:
      cells: as from `results.load`.
      epochs: length of these runs.
    """
    chosen = pick(cells, lambda cell: cell.hidden == 500 and cell.epochs == epochs)
    by_method = {(cell.method, cell.kept): values(chosen[cell], AT_END, 100) for cell in chosen}
    rows = []
    for cell in sorted(chosen, key=sort_key):
        ours = values(chosen[cell], AT_END, 100)
        versus = [
            "-"
            if method == cell.method
            else difference(paired_difference(ours, by_method.get((method, cell.kept), {})))
            for method in ("msbp", "unified")
        ]
        rows.append([cell.label, str(cell.kept), str(len(ours)), spread(ours), *versus])
    headings = ["method", "k", "seeds", "test accuracy at the end", "minus MSBP, decay .8"]
    return markdown([*headings, "minus unified"], rows)
