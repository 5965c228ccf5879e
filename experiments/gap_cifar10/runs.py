"""The grid: dense, gradual pruning and grow-and-prune at one sparsity and equal updates."""

import dataclasses
from collections.abc import Iterator

METHODS = ("dense", "GMP", "C-GaP")
SPARSITY = 0.9


@dataclasses.dataclass(frozen=True)
class Setting:
    """How long, and on how much.

    Attributes:
      seeds: runs of each method.
      batch: images of an update.
      phases: K of grow-and-prune.
      phase: T, updates of a phase.
      fine_tune: T', updates after the last phase.
      every: updates between two evaluations.
      augment: whether training images are shifted and mirrored.
      train_each, test_each: images read of each class; None for all.
    """

    seeds: int
    batch: int
    phases: int
    phase: int
    fine_tune: int
    every: int
    augment: bool = True
    train_each: int | None = None
    test_each: int | None = None

    @property
    def updates(self) -> int:
        """Of a whole run, whatever its method."""
        return self.phases * self.phase + self.fine_tune

    def stops(self) -> list[int]:
        """Updates after which the network is evaluated: every so many, and at the end of all phases.

        Example:
          >>> Setting(seeds=1, batch=8, phases=3, phase=10, fine_tune=25, every=20).stops()
          [20, 30, 40, 55]
        """
        ends = {self.phases * self.phase, self.updates}
        return sorted(ends | set(range(self.every, self.updates, self.every)))


# 45,834 images are 358 batches of 128: 12 phases (4 rounds) of 20 epochs and 60 epochs in the end.
SETTINGS = {
    "full": Setting(3, 128, phases=12, phase=20 * 358, fine_tune=60 * 358, every=5 * 358),
    "short": Setting(
        1, 32, phases=3, phase=30, fine_tune=60, every=30, train_each=500, test_each=100
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: of `METHODS`.
      seed: fixes initialisation, first masks and batches, the same for every method.
      setting: key of `SETTINGS`.
      depth: 20 or 32 layers.
      sparsity: share of the masked layers' weights that are zero in the end; 0 for dense.
    """

    method: str
    seed: int
    setting: str = "full"
    depth: int = 20
    sparsity: float = SPARSITY

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("C-GaP", 0, "short").name
          'short_resnet20_cgap_sparsity0.9_seed0'
        """
        method = self.method.lower().replace("-", "")
        return (
            f"{self.setting}_resnet{self.depth}_{method}_sparsity{self.sparsity:g}_seed{self.seed}"
        )


def grid(setting: str, depths: tuple[int, ...] = (20,)) -> Iterator[Run]:
    """All runs of a setting.

    Args:
      setting: key of `SETTINGS`.
      depths: of 20 and 32.

    Yields:
      Runs.
    """
    for depth in depths:
        for method in METHODS:
            sparsity = 0.0 if method == "dense" else SPARSITY
            for seed in range(SETTINGS[setting].seeds):
                yield Run(method, seed, setting, depth, sparsity)
