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
# A tenth of what the config sends, as a tenth of the weights is alive.
FEWER = 0.001


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      levers: of `CELLS`.
      seed: fixes initialisation and batches, the same for every cell; first masks are the same for all seeds.
      density: of the exchange where that is a lever; None for the config's.
    """

    levers: str
    seed: int
    density: float | None = None

    @property
    def cell(self) -> str:
        """All but the seed.

        Example:
          >>> Run("compress+masks", 0, 0.001).cell, Run("", 0).cell
          ('compress+masks_density0.001', 'dense')
        """
        special = "" if self.density is None else f"_density{self.density:g}"
        return (self.levers or "dense") + special

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
        config.seed = self.seed
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


def grid(seeds: int) -> Iterator[Run]:
    """All cells of one seed before the next seed, so that a grid cut short is balanced.

    Args:
      seeds: runs of each cell.

    Yields:
      Runs.
    """
    for seed in range(seeds):
        yield from (Run(cell, seed) for cell in CELLS)
    yield from (Run(ALL, seed, FEWER) for seed in range(seeds))
