"""The grid: how the entries are shared out among the layers, by density."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optax

from experiments.sbc_lenet_mnist.methods import AXIS
from experiments.sbc_lenet_mnist.tally import Tally
from sparsetrain import compress

LEARNING_RATE = 0.1
DENSITIES = (0.01, 0.001, 0.0001)
# Method -> density -> compressor. `steps` is the s of DLS(s); None adjusts until all layers share one threshold.
COMPRESSORS: dict[str, Callable[[float], Any]] = {
    "dense": lambda density: compress.dense(),
    "layer-wise": lambda density: compress.top_k(density),
    "DLS(1)": lambda density: compress.layerwise(density, steps=1),
    "DLS(2)": lambda density: compress.layerwise(density, steps=2),
    "DLS(4)": lambda density: compress.layerwise(density, steps=4),
    "DLS(inf)": lambda density: compress.layerwise(density, steps=None),
    "DEFT": lambda density: compress.norm_proportional(density),
    "global": lambda density: compress.global_top_k(density),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: key of `COMPRESSORS`.
      density: share of all entries that a message carries.
      seed: fixes initialisation, split and batches, the same for every method.
      iterations: steps, each with one message.
      clients: number of clients.
      batch: images of one client's batch.
      model: key of `models.MODELS`.
    """

    method: str
    density: float
    seed: int
    iterations: int = 1000
    clients: int = 4
    batch: int = 128
    model: str = "lenet5"

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("DLS(inf)", 0.001, seed=0).name
          'lenet5_dls_inf_density0.001_iterations1000_seed0'
        """
        method = self.method.lower().replace("(", "_").replace(")", "").replace("-", "")
        return f"{self.model}_{method}_density{self.density:g}_iterations{self.iterations}_seed{self.seed}"

    def compressor(self) -> Tally:
        """What a client sends, with its account."""
        return Tally(COMPRESSORS[self.method](self.density))

    def optimizer(self) -> optax.GradientTransformation:
        """u = r + eta g, and the mean of what is sent is the update: the algorithm as it stands."""
        exchange = compress.exchange(self.compressor(), compress.residual(), axis_name=AXIS)
        return optax.chain(optax.sgd(LEARNING_RATE), exchange)

    def stops(self) -> list[int]:
        """Steps at which is measured."""
        points = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 600, 800)
        return [*(step for step in points if step < self.iterations), self.iterations]


def grid(
    seeds: int,
    iterations: int,
    densities: Sequence[float] = DENSITIES,
    model: str = "lenet5",
    batch: int = 128,
) -> Iterator[Run]:
    """Every method of one seed before the next seed, so that a grid cut short is balanced."""
    for seed in range(seeds):
        yield Run("dense", 1.0, seed, iterations, batch=batch, model=model)
        for density in densities:
            for method in COMPRESSORS:
                if method != "dense":
                    yield Run(method, density, seed, iterations, batch=batch, model=model)
