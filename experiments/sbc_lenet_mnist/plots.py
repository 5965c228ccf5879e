"""Results as pictures."""

from pathlib import Path

import numpy as np

from experiments.plots import axes_of, save
from experiments.sbc_lenet_mnist.methods import METHODS
from experiments.sbc_lenet_mnist.results import Runs

HORIZONTAL = {"iteration": "iterations", "bits": "bits sent upstream by one client"}


def error(runs: Runs, over: str, path: Path) -> None:
    """Test error against iterations or bits, both axes logarithmic; the geometric mean over seeds.

    Args:
      runs: as from `results.load`.
      over: key of `HORIZONTAL`.
      path: of the PNG.
    """
    figure, axes = axes_of("test error, %", HORIZONTAL[over])
    for name, mine in runs.items():
        across = np.mean([record["curves"][over] for record in mine.values()], axis=0)
        errors = 100 * (1 - np.array([r["curves"]["test_accuracy"] for r in mine.values()]))
        # No bits before the first message: nothing to show on a logarithmic axis.
        shown = across > 0
        level = np.exp(np.mean(np.log(errors), axis=0))
        axes.loglog(across[shown], level[shown], marker=".", label=METHODS[name].label)
    axes.grid(alpha=0.15, which="minor")
    save(figure, axes, path)
