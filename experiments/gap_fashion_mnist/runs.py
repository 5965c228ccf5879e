"""The grid: methods by sparsity at equal epochs, the same at long budgets, ablations, a small conv net."""

import dataclasses
from collections.abc import Iterator

SPARSITIES = (0.8, 0.9, 0.95, 0.98)
METHODS = ("dense", "static", "SNIP", "SET", "RigL", "GMP", "one-shot", "C-GaP", "P-GaP")
EPOCHS = 8
# Phases of grow-and-prune: (K phases or rounds, T epochs of each); the rest of a run is fine-tuning.
EQUAL = {"C-GaP": (4, 1), "P-GaP": (2, 1)}
LONG = {"C-GaP": (28, 2), "P-GaP": (16, 2)}
LONG_EPOCHS = 68
PARTS = ("equal", "ablations", "long", "conv")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: of `METHODS`.
      sparsity: share of the masked layers' weights that are zero; 0 for dense.
      seed: fixes initialisation, first masks and batches, the same for every method.
      part: of `PARTS`.
      epochs: passes over the training images that all workers make together.
      network: "lenet-300-100", "mlp4" or "conv".
      kappa: partitions of grow-and-prune.
      order: "cyclic" or "random".
      distribution: "uniform" or "global".
      structure: "unstructured" or "block 1x8".
    """

    method: str
    sparsity: float
    seed: int
    part: str = "equal"
    epochs: int = EPOCHS
    network: str = "lenet-300-100"
    kappa: int = 2
    order: str = "cyclic"
    distribution: str = "uniform"
    structure: str = "unstructured"

    @property
    def phases(self) -> tuple[int, int]:
        """(K, T): phases or rounds, and epochs of each."""
        return (LONG if self.part == "long" else EQUAL)[self.method]

    @property
    def cell(self) -> str:
        """All but the seed.

        Example:
          >>> Run("C-GaP", 0.9, 0, kappa=4, network="mlp4").cell
          'equal_mlp4_cgap_sparsity0.9_kappa4_cyclic_uniform_unstructured_epochs8'
        """
        method = self.method.lower().replace("-", "")
        plan = ""
        if self.method in EQUAL:
            plan = f"_kappa{self.kappa}_{self.order}_{self.distribution}_{self.structure}"
        name = f"{self.part}_{self.network}_{method}_sparsity{self.sparsity:g}{plan}_epochs{self.epochs}"
        return name.replace(" ", "")

    @property
    def name(self) -> str:
        """Stem of the result file."""
        return f"{self.cell}_seed{self.seed}"


def grid(seeds: int, parts: tuple[str, ...] = PARTS) -> Iterator[Run]:
    """All runs; seeds of a cell follow one another, so that they share what is compiled.

    Args:
      seeds: runs of each cell; the long budgets and the conv net have at most 3.
      parts: of `PARTS`, in this order.

    Yields:
      Runs.
    """
    for part in parts:
        for run in _PARTS[part]():
            few = min(seeds, 3) if part in ("long", "conv") else seeds
            yield from (dataclasses.replace(run, seed=seed, part=part) for seed in range(few))


def _equal() -> Iterator[Run]:
    yield Run("dense", 0, 0)
    for sparsity in (0.9, 0.95, 0.98, 0.8):
        yield from (Run(method, sparsity, 0) for method in METHODS[1:])


def _ablations() -> Iterator[Run]:
    yield from (Run("C-GaP", 0.9, 0, network="mlp4", kappa=kappa) for kappa in (1, 2, 4))
    base = Run("C-GaP", 0.9, 0, network="mlp4", kappa=4)
    yield dataclasses.replace(base, order="random")
    yield dataclasses.replace(base, distribution="global")
    yield dataclasses.replace(base, structure="block 1x8")
    yield Run("dense", 0, 0, network="mlp4")


def _long() -> Iterator[Run]:
    count, each = LONG["P-GaP"]
    of_workers = count * each * 2 + 12  # Two workers, then the fine-tuning.
    yield Run("dense", 0, 0, "long", LONG_EPOCHS)
    for sparsity in (0.9, 0.8, 0.95, 0.98):
        for method in ("C-GaP", "GMP", "RigL", "P-GaP"):
            yield Run(method, sparsity, 0, "long", of_workers if method == "P-GaP" else LONG_EPOCHS)


def _conv() -> Iterator[Run]:
    for method in ("dense", "C-GaP", "GMP", "RigL"):
        yield Run(method, 0 if method == "dense" else 0.9, 0, network="conv")


_PARTS = {"equal": _equal, "ablations": _ablations, "long": _long, "conv": _conv}
