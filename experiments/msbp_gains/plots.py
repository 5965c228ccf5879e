"""Results as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # Not pyplot: no display and no global state.

from experiments.msbp_gains.comparisons import Side, pair
from experiments.msbp_gains.results import Results, findings
from experiments.msbp_gains.runs import DENSE, DENSITIES, Method, msbp, sbp
from experiments.msbp_gains.tables import RATES
from experiments.plots import save


def panels(titles: tuple[str, ...], horizontal: str, shared: bool) -> tuple[Figure, Any]:
    """A figure with titled axes side by side."""
    figure = Figure(figsize=(4.6 * len(titles), 3.8), layout="constrained")
    row = figure.subplots(1, len(titles), sharey=shared)
    for axes, title in zip(row, titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel(horizontal)
        axes.grid(alpha=0.3)
    return figure, row


def finish(figure: Figure, row: Any, path: Path) -> None:
    """Writes the PNG, with the legend in the first axes that show something; without any there is no picture."""
    drawn = [axes for axes in row if axes.get_legend_handles_labels()[0]]
    if drawn:
        save(figure, drawn[0], path)


def gain_over_density(results: Results, path: Path) -> None:
    """MSBP minus dense and minus SBP over density with 95% intervals, a line for each kind of learning rate."""
    figure, row = panels(("MSBP minus dense", "MSBP minus SBP"), "density", shared=False)
    for number, at in enumerate("abc"):
        for axes, others in zip(row, (lambda _: DENSE, sbp), strict=True):
            pairs = [pair("", "main", msbp(d), others(d), at) for d in DENSITIES]
            found = findings(results, pairs)
            if not found:
                continue
            means, lows, highs = np.transpose([f.interval[:3] for f in found])
            # Beside one another, not over one another.
            at_density = [f.comparison.ours.method.density * 1.05 ** (number - 1) for f in found]
            axes.errorbar(
                at_density,
                means,
                [means - lows, highs - means],
                marker=".",
                capsize=3,
                label=RATES[at],
            )
    for axes in row:
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(DENSITIES, [f"{d:g}" for d in DENSITIES], minor=False)
        axes.minorticks_off()
    row[0].set_ylabel("test accuracy, points")
    finish(figure, row, path)


def validation_over_rate(results: Results, path: Path) -> None:
    """Mean validation accuracy over the learning rate, at two densities, and with SGD: where each method works best."""
    wanted = (("main", 0.02), ("main", 0.04), ("sgd", 0.04))
    titles = tuple(f"density {d:g}, {'Adam' if setup == 'main' else 'SGD'}" for setup, d in wanted)
    figure, row = panels(titles, "learning rate", shared=True)
    for axes, (setup, density) in zip(row, wanted, strict=True):
        for method in (DENSE, sbp(density), msbp(density)):
            content = results.tuning.get((setup, method))
            if content is None:
                continue
            means = 100 * np.mean(content["validation"], axis=1)
            axes.plot(content["rates"], means, marker=".", label=method.name)
        axes.set_xscale("log")
        axes.set_ylim(90, 97)
    row[0].set_ylabel("validation accuracy, %")
    finish(figure, row, path)


def accuracy_by_epoch(results: Results, path: Path) -> None:
    """Test accuracy by epoch at density .04: at the paper's learning rate, and at each method's tuned one."""
    titles = ("learning rate 1e-3", "each at its tuned learning rate")
    figure, row = panels(titles, "epoch", shared=True)
    methods: tuple[Method, ...] = (DENSE, sbp(0.04), msbp(0.04))
    for axes, at in zip(row, "ab", strict=True):
        for method in methods:
            side = Side("main", method, at)
            means = {
                epoch: np.mean(list(found.values()))
                for epoch in (1, 2, 5, 10, 20)
                if (found := results.values(side, f"curve {epoch}"))
            }
            if means:
                axes.plot(list(means), list(means.values()), marker=".", label=method.label)
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        axes.minorticks_off()
    row[0].set_ylabel("test accuracy, %")
    finish(figure, row, path)
