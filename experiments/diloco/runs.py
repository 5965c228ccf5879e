"""The grid: every step dense, DiLoCo, and DiLoCo that sends less."""

import dataclasses
from collections.abc import Iterator

STEPS, EVERY = 400, 20
# Of DiLoCo; "average" takes the mean of the workers, as FedAvg does.
OUTERS = ("nesterov", "average")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: "every step", "dense", "top-k", "SBC", "STC" or "sign": how the difference is sent.
      seed: fixes initialisation and batches, the same for every method.
      density: share of the entries that are sent; 1 where the method sends all.
      outer: of `OUTERS`.
      steps: of every worker.
      every: H, local steps between two exchanges.
    """

    method: str
    seed: int
    density: float = 1.0
    outer: str = "nesterov"
    steps: int = STEPS
    every: int = EVERY

    @property
    def cell(self) -> str:
        """All but the seed.

        Example:
          >>> Run("top-k", 0, 0.01).cell, Run("every step", 0, outer="average", every=1).cell
          ('topk_density0.01_nesterov_every20_steps400', 'everystep_density1_average_every1_steps400')
        """
        method = self.method.lower().replace("-", "").replace(" ", "")
        return f"{method}_density{self.density:g}_{self.outer}_every{self.every}_steps{self.steps}"

    @property
    def name(self) -> str:
        """Stem of the result file."""
        return f"{self.cell}_seed{self.seed}"

    @property
    def label(self) -> str:
        """Name in table and figure.

        Example:
          >>> Run("SBC", 0, 0.01).label, Run("dense", 0, outer="average").label, Run("every step", 0, every=1).label
          ('DiLoCo + SBC 1%', 'local steps, mean', 'AdamW, every step')
        """
        if self.method == "every step":
            return "AdamW, every step"
        name = "DiLoCo" if self.outer == "nesterov" else "local steps, mean"
        how = "" if self.method == "dense" else f" + {self.method}"
        share = f" {100 * self.density:g}%".replace(" 0.", " .") if self.density < 1 else ""
        return f"{name}{how}{share}"


def cells() -> Iterator[Run]:
    """A run of every cell, in the order of the table."""
    yield Run("every step", 0, outer="average", every=1)
    yield Run("dense", 0)
    yield Run("dense", 0, outer="average")
    for density in (0.01, 0.001):
        yield Run("top-k", 0, density)
    yield Run("SBC", 0, 0.01)
    yield Run("STC", 0, 0.01)
    yield Run("sign", 0)
    yield Run("top-k", 0, 0.01, outer="average")


def grid(seeds: int, steps: int = STEPS) -> Iterator[Run]:
    """All cells of one seed before the next seed, so that a grid cut short is balanced.

    Args:
      seeds: runs of each cell.
      steps: length of a run.

    Yields:
      Runs.
    """
    for seed in range(seeds):
        yield from (dataclasses.replace(run, seed=seed, steps=steps) for run in cells())
