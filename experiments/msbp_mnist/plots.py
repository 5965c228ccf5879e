"""Results as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.msbp_mnist.results import Cell, Cells, Record, pick, values
from experiments.msbp_mnist.tables import AT_END, sort_key
from experiments.plots import axes_of, save
from experiments.statistics import mean_and_std

Lines = Mapping[int, Sequence[tuple[float, Mapping[int, Record]]]]


def over_decay(cells: Cells) -> Lines:
    """k -> (decay, runs) by rising decay; SBP stands at decay 0."""
    lines: dict[int, list[tuple[float, Mapping[int, Record]]]] = {}
    for cell in sorted(cells, key=lambda cell: cell.decay):
        if cell.method in ("sbp", "msbp") and cell.kept is not None:
            lines.setdefault(cell.kept, []).append((cell.decay, cells[cell]))
    return dict(sorted(lines.items()))


def accuracy(cells: Cells, path: Path) -> None:
    """Figure 2: test accuracy at the end, mean and one standard deviation, over the decay for each k."""
    figure, axes = axes_of("test accuracy, %", "decay (0 is SBP)")
    for kept, line in over_decay(cells).items():
        decays = [decay for decay, _ in line]
        means, spreads = zip(
            *(mean_and_std(list(values(runs, AT_END, 100).values())) for _, runs in line),
            strict=True,
        )
        axes.errorbar(
            decays, means, np.nan_to_num(spreads), marker="o", capsize=3, label=f"k = {kept}"
        )
    for cell, runs in cells.items():
        if cell.method == "dense":
            mean = mean_and_std(list(values(runs, AT_END, 100).values()))[0]
            axes.axhline(mean, color="black", linestyle="--", label="dense")
    save(figure, axes, path)


def spread(cells: Cells, path: Path) -> None:
    """Figure 3: standard deviation of the test accuracy over seeds."""
    figure, axes = axes_of("std of test accuracy over seeds, points", "decay (0 is SBP)")
    for kept, line in over_decay(cells).items():
        spreads = [mean_and_std(list(values(runs, AT_END, 100).values()))[1] for _, runs in line]
        axes.plot([decay for decay, _ in line], spreads, marker="o", label=f"k = {kept}")
    for cell, runs in cells.items():
        if cell.method == "dense":
            level = mean_and_std(list(values(runs, AT_END, 100).values()))[1]
            axes.axhline(level, color="black", linestyle="--", label="dense")
    save(figure, axes, path)


def angle(cells: Cells, path: Path) -> None:
    """Figure 5: gradient estimation angle after training, of all parameters and of each sparse kernel."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    names = ("all", "hidden_0/kernel", "hidden_1/kernel")
    for axes, name in zip(panels, names, strict=True):
        for number, (kept, line) in enumerate(over_decay(cells).items()):
            for kind, style in (("angles_moving", "-"), ("angles", ":")):
                angles = [
                    mean_and_std(list(values(r, f"{kind} {name}").values()))[0] for _, r in line
                ]
                label = f"k = {kept}, memory {'held' if kind == 'angles' else 'moving'}"
                decays = [decay for decay, _ in line]
                axes.plot(decays, angles, style, marker="o", color=f"C{number}", label=label)
        axes.set_title("all parameters" if name == "all" else name)
        axes.set_xlabel("decay (0 is SBP)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("angle to the true gradient, degrees")
    save(figure, panels[0], path)


def curves(cells: Cells, kept: int, path: Path) -> None:
    """Dev accuracy after every epoch, mean over seeds, of the methods at one k."""

    def shown(cell: Cell) -> bool:
        return cell.kept in (None, kept)

    figure, axes = axes_of(f"dev accuracy, %, k = {kept}", "epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    chosen = pick(cells, shown)
    for cell in sorted(chosen, key=sort_key):
        runs = [100 * np.array(r["curves"]["validation_accuracy"]) for r in chosen[cell].values()]
        epochs = np.arange(1, len(runs[0]) + 1)
        mean, std = np.mean(runs, axis=0), np.std(runs, axis=0)
        (line,) = axes.plot(epochs, mean, label=cell.label)
        axes.fill_between(epochs, mean - std, mean + std, color=line.get_color(), alpha=0.15)
    save(figure, axes, path)
