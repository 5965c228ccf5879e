"""The predictions as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # Not pyplot: no display and no global state.

from experiments.cost_model.tables import DENSE, EVERY_STEP, LABELS, percent
from experiments.cost_model.times import CPU, DENSITIES, ENTRIES, FREE, TENSORS, processor
from sparsetrain.runtime.cost_model import NETWORKS, Exchange, Work, crossover, predict

WORKERS = 2 ** np.arange(1, 11)  # to 1,024: between powers of two some methods pay for a partner
SHOWN = (*EVERY_STEP, Exchange("sbc", header_bits=32 * TENSORS, local_steps=10))
STYLES = {FREE: "-", CPU: ":"}


def times(path: Path) -> None:
    """Seconds a step over the number of workers: a column for each network, a row for each density."""
    figure = Figure(figsize=(13.0, 6.8), layout="constrained")
    panels = figure.subplots(len(DENSITIES), len(NETWORKS), sharex=True, sharey="col")
    for row, density in zip(panels, DENSITIES, strict=True):
        for axes, network in zip(row, NETWORKS.values(), strict=True):
            for name, style in STYLES.items():
                curves = {each: _curve(each, density, name, network.name) for each in DENSE}
                label = "dense" if name == FREE else f"dense, {name}"
                dense = np.min(list(curves.values()), axis=0)
                axes.loglog(WORKERS, dense, style, color="black", label=label)
                for number, each in enumerate(SHOWN):
                    label = LABELS[each.method]
                    if each.local_steps > 1:
                        label += f", every {each.local_steps}"
                    axes.loglog(
                        WORKERS,
                        _curve(each, density, name, network.name),
                        style,
                        color=f"C{number}",
                        label=label if name == FREE else None,
                    )
            axes.set_title(f"{network.name}, density {percent(density)}")
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("workers")
    for axes in panels[:, 0]:
        axes.set_ylabel("communication, s a step")
    _save(figure, panels[0, 0], path)


def _curve(exchange: Exchange, density: float, name: str, network: str) -> np.ndarray:
    cost = predict(
        exchange,
        NETWORKS[network],
        workers=WORKERS,
        entries=ENTRIES,
        density=density,
        work=processor(name, exchange, density),
    )
    return np.asarray(cost.communication)


def crossovers(path: Path) -> None:
    """Largest density that pays, over the number of workers: a panel for each network, the processor free."""
    figure = Figure(figsize=(13.0, 4.1), layout="constrained")
    panels = figure.subplots(1, len(NETWORKS), sharey=True)
    for axes, network in zip(panels, NETWORKS.values(), strict=True):
        for number, each in enumerate(EVERY_STEP):
            found = crossover(each, network, workers=WORKERS, entries=ENTRIES, work=Work())
            axes.loglog(WORKERS, found, marker=".", color=f"C{number}", label=LABELS[each.method])
        axes.loglog(WORKERS, 1 / WORKERS, "k--", label="1/W")
        axes.set_title(network.name)
        axes.set_xlabel("workers")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("density below which sparse wins")
    _save(figure, panels[0], path)


def _save(figure: Figure, named: Any, path: Path) -> None:
    # One legend below all panels: inside one it would hide curves.
    figure.legend(*named.get_legend_handles_labels(), loc="outside lower center", ncols=8)
    # No software version in the file: equal predictions give equal bytes.
    figure.savefig(path, dpi=100, metadata={"Software": None})
