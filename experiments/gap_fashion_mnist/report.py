"""Tables and plots from the result files alone.

    python -m experiments.gap_fashion_mnist.report --out=experiments/gap_fashion_mnist/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the README.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.gap_fashion_mnist import runs
from experiments.markdown import difference, markdown, spread
from experiments.plots import axes_of, save
from experiments.results import Record, main, publish, read
from experiments.statistics import paired_difference

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# What a row is -> seed -> content of the result file.
Rows = dict[tuple[str, ...], dict[int, Record]]
TITLES = {
    "equal": "LeNet-300-100, {epochs} epochs for every method",
    "ablations": "C-GaP on an MLP of four masked layers (300, 200, 150, 100), {epochs} epochs",
    "long": "LeNet-300-100 at the paper's proportions: C-GaP's 28 phases and a fine-tuning, the others as long",
    "conv": "A small conv net, {epochs} epochs",
}
RIVALS = tuple(m for m in runs.METHODS if m not in ("dense", "C-GaP", "P-GaP"))


def load(out: Path) -> list[Record]:
    """All results of a folder.

    Raises:
      ValueError: none there.
    """
    return read(out, "python -m experiments.gap_fashion_mnist")


def rows(records: Sequence[Record], part: str, label: Callable[[Record], tuple[str, ...]]) -> Rows:
    """Records of a part by what a row of its table is, in the order of the grid."""
    order = {run.name: i for i, run in enumerate(runs.grid(99, (part,)))}
    fields = list(runs.Run.__dataclass_fields__)
    mine = [record for record in records if record["part"] == part]
    named = [(runs.Run(**{f: record[f] for f in fields}).name, record) for record in mine]
    found: Rows = {}
    for _, record in sorted(named, key=lambda pair: order.get(pair[0], len(order))):
        found.setdefault(label(record), {})[record["seed"]] = record
    return found


def label(record: Record) -> tuple[str, ...]:
    """Sparsity and method of a row."""
    return f"{100 * record['sparsity']:g}%", record["method"]


def label_of_ablation(record: Record) -> tuple[str, ...]:
    """Sparsity, method and what is special in it."""
    if record["method"] == "dense":
        return "0%", "dense"
    special = [record[field] for field in ("order", "distribution", "structure")]
    plain = ("cyclic", "uniform", "unstructured")
    unlike = [value for value, usual in zip(special, plain, strict=True) if value != usual]
    return f"{100 * record['sparsity']:g}%", " ".join([f"C-GaP, kappa {record['kappa']}", *unlike])


def accuracies(mine: Mapping[int, Record], field: str = "test_accuracy") -> dict[int, float]:
    """Seed -> test accuracy, per cent."""
    return {seed: 100 * record[field] for seed, record in mine.items()}


def table(found: Rows, base: str) -> str:
    """Test accuracy at the end and at the best validation, and paired differences.

    Args:
      found: of `rows`.
      base: method that the rows of the same sparsity are compared with.
    """
    lines = []
    dense = next((mine for key, mine in found.items() if key[1] == "dense"), None)
    for key, mine in sorted(found.items(), key=lambda item: float(item[0][0].rstrip("%"))):
        ends = accuracies(mine)
        with_dense, against = "-", "-"
        if dense is not None and mine is not dense:
            with_dense = difference(paired_difference(ends, accuracies(dense)))
        best = found.get((key[0], base))
        if best is not None and best is not mine:
            against = difference(paired_difference(ends, accuracies(best)))
        kept = np.mean([record["final_density"] for record in mine.values()])
        first = next(iter(mine.values()))
        at_best = accuracies(mine, "test_accuracy_at_best")
        cells = [f"{kept:.3f}", f"{first['epochs']}", str(len(mine)), spread(ends), spread(at_best)]
        lines.append([*key, *cells, with_dense, against])
    headings = ["sparsity", "method", "density reached", "epochs", "seeds", "test accuracy, %"]
    headings += ["at best validation", "minus dense", f"minus {base}"]
    return markdown(headings, lines)


def text(records: Sequence[Record]) -> str:
    """All tables under their headings."""
    parts = []
    for part in runs.PARTS:
        is_ablation = part == "ablations"
        found = rows(records, part, label_of_ablation if is_ablation else label)
        if found:
            first = next(iter(next(iter(found.values())).values()))
            base = "C-GaP, kappa 4" if is_ablation else "C-GaP"
            title = TITLES[part].format(epochs=first["epochs"])
            parts.append(f"### {title}\n\n{table(found, base)}\n")
    return "\n".join([*parts, claims(records)])


def claims(records: Sequence[Record]) -> str:
    """What the paper's hypotheses come to: C-GaP against the best rival and against dense training."""
    found = rows(records, "equal", label)
    lines = ["### C-GaP against the best rival at equal epochs", ""]
    for sparsity in sorted({key[0] for key in found if key[1] == "C-GaP"}):
        ours = accuracies(found[sparsity, "C-GaP"])
        rivals = {m: accuracies(found[sparsity, m]) for m in RIVALS if (sparsity, m) in found}
        if rivals:
            best = max(rivals, key=lambda name: float(np.mean(list(rivals[name].values()))))
            gap = difference(paired_difference(ours, rivals[best]))
            lines.append(f"- {sparsity}: the best rival is {best}; C-GaP minus it: {gap} points.")
    return "\n".join([*lines, ""])


def plot(records: Sequence[Record], path: Path) -> None:
    """Test accuracy over sparsity, a line for each method."""
    figure, axes = axes_of("test accuracy, %", "sparsity, %")
    found = rows(records, "equal", label)
    for method in runs.METHODS[1:]:
        points = sorted(
            (float(key[0].rstrip("%")), list(accuracies(mine).values()))
            for key, mine in found.items()
            if key[1] == method
        )
        if points:
            means = [float(np.mean(values)) for _, values in points]
            axes.errorbar(
                [at for at, _ in points],
                means,
                yerr=[float(np.std(values)) for _, values in points],
                marker=".",
                label=method,
            )
    dense = found.get(("0%", "dense"))
    if dense:
        axes.axhline(float(np.mean(list(accuracies(dense).values()))), linestyle=":", label="dense")
    save(figure, axes, path)


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results, and the tables of our own into the README."""
    records = load(out)
    publish(text(records), out, README)
    if any(record["part"] == "equal" for record in records):
        plot(records, out / "accuracy_over_sparsity.png")


if __name__ == "__main__":
    main("experiments.gap_fashion_mnist", write, RESULTS)
