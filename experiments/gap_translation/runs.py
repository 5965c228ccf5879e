"""The grid: dense, one-shot pruning and grow-and-prune at one sparsity and equal updates."""

import dataclasses
from collections.abc import Iterator

METHODS = ("dense", "one-shot", "C-GaP")
SPARSITY = 0.9


@dataclasses.dataclass(frozen=True)
class Setting:
    """How long, on how much, and the size of the network.

    Attributes:
      seeds: runs of each method.
      symbols: pieces of the vocabulary that both languages share.
      width, feed, heads, layers, dropout: of `Transformer`; layers even, since the decoder is halved.
      batch: pairs of an update.
      length: pieces of a sentence, the end included; longer pairs are not trained on.
      learning_rate: at the end of the warm-up.
      warm_up: updates, in every phase anew.
      phases: K of grow-and-prune.
      phase: T, updates of a phase.
      fine_tune: T', updates after the last phase.
      every: updates between two evaluations.
      tested: sentences that are translated in the end.
    """

    seeds: int
    symbols: int
    width: int
    feed: int
    heads: int
    layers: int
    dropout: float
    batch: int
    length: int
    learning_rate: float
    warm_up: int
    phases: int
    phase: int
    fine_tune: int
    every: int
    tested: int = 1000

    @property
    def updates(self) -> int:
        """Of a whole run, whatever its method."""
        return self.phases * self.phase + self.fine_tune

    def stops(self) -> list[int]:
        """Updates after which the validation loss is measured."""
        ends = {self.phases * self.phase, self.updates}
        return sorted(ends | set(range(self.every, self.updates, self.every)))


# 29,000 pairs are 226 batches of 128. K, T and T' of "full" are the paper's: 30, 10 and 40 epochs.
SETTINGS = {
    "full": Setting(
        seeds=3,
        symbols=8000,
        width=256,
        feed=1024,
        heads=4,
        layers=4,
        dropout=0.3,
        batch=128,
        length=64,
        learning_rate=1e-3,
        warm_up=500,
        phases=30,
        phase=10 * 226,
        fine_tune=40 * 226,
        every=5 * 226,
    ),
    "short": Setting(
        seeds=1,
        symbols=2000,
        width=128,
        feed=256,
        heads=4,
        layers=2,
        dropout=0.1,
        batch=32,
        length=32,
        learning_rate=2e-3,
        warm_up=20,
        phases=3,
        phase=60,
        fine_tune=120,
        every=60,
        tested=200,
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: of `METHODS`.
      seed: fixes initialisation, first masks, batches and dropout, the same for every method.
      setting: key of `SETTINGS`.
      sparsity: share of the masked layers' weights that are zero in the end; 0 for dense.
    """

    method: str
    seed: int
    setting: str = "full"
    sparsity: float = SPARSITY

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("C-GaP", 0, "short").name
          'short_cgap_sparsity0.9_seed0'
        """
        method = self.method.lower().replace("-", "")
        return f"{self.setting}_{method}_sparsity{self.sparsity:g}_seed{self.seed}"


def grid(setting: str) -> Iterator[Run]:
    """All runs of a setting.

    Args:
      setting: key of `SETTINGS`.

    Yields:
      Runs.
    """
    for method in METHODS:
        sparsity = 0.0 if method == "dense" else SPARSITY
        for seed in range(SETTINGS[setting].seeds):
            yield Run(method, seed, setting, sparsity)
