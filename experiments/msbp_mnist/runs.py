"""The grid: which runs the tables and the figures are made of."""

import dataclasses
from collections.abc import Iterator

import ml_collections

from configs import msbp_mnist

# Method -> (registry name of its rule, whether kernel gradients stay row-sparse).
METHODS: dict[str, tuple[str, bool]] = {
    "dense": ("dense", False),
    "sbp": ("top_k", False),
    "msbp": ("memorized_top_k", False),
    "unified": ("unified_top_k", False),
    "unified_rows": ("unified_top_k", True),
    "union_rows": ("memorized_top_k", True),
    "adaptive": ("memorized_top_k", False),
    "grouped": ("grouped_top_k", False),
}
DECAY = 0.8
ROW_GROUPS = 8  # of "grouped": four images of a batch share their columns
FIGURE_KEPT = (5, 10, 20)
FIGURE_DECAYS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: key of `METHODS`.
      kept: k, gradient entries kept of each hidden layer's outputs; None where all are.
      decay: the paper's memory ratio gamma; 0 for methods without a memory.
      seed: fixes initialisation, batches and dropout, the same for every method.
      epochs: passes over the training images.
      hidden: outputs of each of the two hidden layers.
    """

    method: str
    kept: int | None
    decay: float
    seed: int
    epochs: int
    hidden: int = 500

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("msbp", 20, 0.8, seed=0, epochs=20).name
          'msbp_h500_k20_decay0.8_epochs20_seed0'
        """
        parts = [self.method, f"h{self.hidden}"]
        if self.kept is not None:
            parts += [f"k{self.kept}", f"decay{self.decay:g}"]
        return "_".join([*parts, f"epochs{self.epochs}", f"seed{self.seed}"])

    def config(self) -> ml_collections.ConfigDict:
        """The config that `sparsetrain.training` takes: `configs/msbp_mnist.py` with this run's settings."""
        config = msbp_mnist.get_config()
        config.seed, config.epochs = self.seed, self.epochs
        config.model.hidden = (self.hidden, self.hidden)
        config.backward.rule, config.backward.row_sparse = METHODS[self.method]
        config.backward.density = 1.0 if self.kept is None else self.kept / self.hidden
        config.backward.decay = self.decay
        if self.method == "adaptive":
            with config.ignore_type():
                config.backward.decay = "adaptive"
        config.backward.row_groups = ROW_GROUPS
        # A run is some minutes at most and its folder goes when it is done: a few checkpoints are enough.
        config.checkpoint_every = 5
        return config


def table2(seeds: int, epochs: int = 20) -> Iterator[Run]:
    """Table 2 (MNIST) at k = 20 and k = 5, and unified selection beside it.

    All methods of one seed come before the next seed, so that a grid cut short is balanced.
    """
    for seed in range(seeds):
        yield Run("dense", None, 0.0, seed, epochs)
        for kept in (20, 5):
            yield Run("sbp", kept, 0.0, seed, epochs)
            yield Run("msbp", kept, DECAY, seed, epochs)
        for kept in (20, 5):
            yield Run("unified", kept, 0.0, seed, epochs)
            yield Run("unified", kept, DECAY, seed, epochs)


def rows(seeds: int, epochs: int = 20) -> Iterator[Run]:
    """More lines of table 2: unified selection with Adam on the touched rows only, which is another optimizer."""
    for seed in range(seeds):
        for kept in (20, 5):
            yield Run("unified_rows", kept, 0.0, seed, epochs)


def figures(seeds: int, epochs: int) -> Iterator[Run]:
    """Figures 2, 3 and 5: accuracy, spread and gradient angle over k and decay."""
    for seed in range(seeds):
        yield Run("dense", None, 0.0, seed, epochs)
        for kept in FIGURE_KEPT:
            for decay in FIGURE_DECAYS:
                yield Run("msbp" if decay else "sbp", kept, decay, seed, epochs)


def beyond(seeds: int, epochs: int) -> Iterator[Run]:
    """Our extensions beside what they extend: the adaptive ratio, and unified selection by groups of rows."""
    for seed in range(seeds):
        for kept in (20, 5):
            yield Run("msbp", kept, DECAY, seed, epochs)
            yield Run("adaptive", kept, 0.0, seed, epochs)
            yield Run("unified", kept, 0.0, seed, epochs)
            yield Run("grouped", kept, DECAY, seed, epochs)


def table5(seeds: int, epochs: int = 20) -> Iterator[Run]:
    """Table 5, 5000 hidden units: dense and per-example selection under Adam, and the row-sparse forms.

    B k = 160 columns of 5000 at k = 5 are few enough for the union of the rows' choices; at k = 10 as well.
    """
    for seed in range(seeds):
        for kept in (5, 10):
            yield Run("union_rows", kept, DECAY, seed, epochs, 5000)
            yield Run("unified_rows", kept, 0.0, seed, epochs, 5000)
        yield Run("dense", None, 0.0, seed, epochs, 5000)
        for kept in (5, 10):
            yield Run("sbp", kept, 0.0, seed, epochs, 5000)
            yield Run("msbp", kept, DECAY, seed, epochs, 5000)
