"""The grid: no lever, one, two, and all three."""

import dataclasses
import itertools
from collections.abc import Iterator

import ml_collections

from configs import three_levers

LEVERS = ("backward", "compress", "masks")
# "" is dense; then one lever, two, three.
CELLS = tuple("+".join(c) for n in range(4) for c in itertools.combinations(LEVERS, n))
ALL = CELLS[-1]
# Of another exchange: a layer that was grown from zeros hears of so much of itself in a message.
MORE = 0.05
EPOCHS = 8
# Of an epoch.
STEPS = 550


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      levers: of `CELLS`.
      seed: fixes initialisation and batches, the same for every cell; first masks are the same for all seeds.
      density: of the exchange where that is a lever; None for the config's.
      epochs: passes over the training images; phases of grow-and-prune take about half of them.
    """

    levers: str
    seed: int
    density: float | None = None
    epochs: int = EPOCHS

    @property
    def cell(self) -> str:
        """All but the seed.

        Example:
          >>> Run("compress+masks", 0, 0.05).cell, Run("", 0).cell
          ('compress+masks_density0.05_epochs8', 'dense_epochs8')
        """
        special = "" if self.density is None else f"_density{self.density:g}"
        return f"{self.levers or 'dense'}{special}_epochs{self.epochs}"

    @property
    def name(self) -> str:
        """Stem of the result file."""
        return f"{self.cell}_seed{self.seed}"

    def config(self) -> ml_collections.ConfigDict:
        """`configs/three_levers.py` with the other levers off.

        Example:
          >>> config = Run("masks", 0).config()
          >>> config.backward.rule, config.compress.name, config.compress.every, config.masks.name
          ('dense', 'dense', 1, 'grow_and_prune')
        """
        config, on = three_levers.get_config(), self.levers.split("+")
        config.seed, config.epochs = self.seed, self.epochs
        # Four phases, each of whole rounds of local steps.
        rounds = self.epochs * STEPS // 8 // config.compress.every
        config.masks.steps_per_phase = rounds * config.compress.every
        if "backward" not in on:
            config.backward.rule = "dense"
        if "compress" not in on:
            config.compress.name, config.compress.every = "dense", 1
            config.compress.momentum_masking = None
        elif self.density is not None:
            config.compress.density = self.density
        if "masks" not in on:
            config.masks.name = "none"
        return config


def grid(seeds: int, epochs: int = EPOCHS) -> Iterator[Run]:
    """All cells of one seed before the next seed, so that a grid cut short is balanced.

    Args:
      seeds: runs of each cell.
      epochs: of every run.

    Yields:
      Runs.
    """
    for seed in range(seeds):
        yield from (Run(cell, seed, epochs=epochs) for cell in CELLS)
    yield from (Run(ALL, seed, MORE, epochs) for seed in range(seeds))
