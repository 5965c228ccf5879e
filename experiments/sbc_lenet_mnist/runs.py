"""The grid: which runs the table and the figures are made of."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import optax

from experiments.sbc_lenet_mnist.methods import METHODS, Method

LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      method: key of `METHODS`.
      seed: fixes initialisation, split and batches, the same for every method.
      iterations: optimizer steps, local ones included.
      clients: number of clients.
      batch: images of one client's batch.
    """

    method: str
    seed: int
    iterations: int = 2000
    clients: int = 4
    batch: int = 128

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("sbc_2", seed=0).name
          'sbc_2_iterations2000_seed0'
        """
        return f"{self.method}_iterations{self.iterations}_seed{self.seed}"

    @property
    def how(self) -> Method:
        """The method itself."""
        return METHODS[self.method]

    def optimizer(self) -> optax.GradientTransformation:
        """Adam as the paper sets it, with this run's way to combine clients."""
        return self.how.optimizer(
            lambda momentum: optax.adam(jnp.float32(LEARNING_RATE), b1=0.9 if momentum else 0.0)
        )

    def stops(self) -> list[int]:
        """Steps at which the server's model is tested: closer together at the start, for the log axis."""
        points = (10, 20, 50, 100, 200, 300, 400, 500, 600, 800)
        early = [step for step in points if step < self.iterations]
        return [*early, *range(1000, self.iterations, 200), self.iterations]


def grid(seeds: int, iterations: int = 2000) -> Iterator[Run]:
    """Every method of one seed before the next seed, so that a grid cut short is balanced."""
    for seed in range(seeds):
        for method in METHODS:
            yield Run(method, seed, iterations)
