"""The grid: the methods of the table, and gradient sparsity by temporal sparsity."""

import dataclasses
from collections.abc import Iterator

import optax

from experiments.sbc_lenet_mnist.methods import METHODS, Method

# The paper's: times .8 at these shares of 16,000 iterations.
PAPER_ITERATIONS = 16_000
DECAYS = (5_000, 8_000, 10_000, 12_000, 14_000)
CPU_ITERATIONS = 2_000
CLIP = 5.0
TABLE = ("dense", "dropping", "fedavg_10", "fedavg_100", "sbc_1", "sbc_2", "sbc_3")
GRID_STEPS = (1, 10, 100)
GRID_DENSITIES = (1.0, 0.1, 0.01, 0.001)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      kind, every, density: of `Method`.
      seed: fixes the initialisation; the text is read in its own order.
      iterations: optimizer steps, local ones included; the learning rate falls at the paper's shares of them.
      hidden: width of both LSTM layers.
      rows: streams of one client, its batch.
      length: symbols of a window, over which gradients flow back.
      clients: number of clients; each reads a part of its own.
    """

    kind: str
    every: int
    density: float
    seed: int
    iterations: int = CPU_ITERATIONS
    hidden: int = 128
    rows: int = 5
    length: int = 50
    clients: int = 4

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("sbc", 10, 0.01, seed=0).name
          'sbc_n10_density0.01_h128_iterations2000_seed0'
        """
        how = f"{self.kind}_n{self.every}_density{self.density:g}"
        return f"{how}_h{self.hidden}_iterations{self.iterations}_seed{self.seed}"

    @property
    def how(self) -> Method:
        """The method itself."""
        return Method(self.kind, self.every, self.density)

    def learning_rate(self) -> optax.Schedule:
        """1.0, times .8 at five points."""
        points = {self.iterations * at // PAPER_ITERATIONS: 0.8 for at in DECAYS}
        return optax.piecewise_constant_schedule(1.0, points)

    def optimizer(self) -> optax.GradientTransformation:
        """SGD on clipped gradients, with this run's way to combine clients."""
        rate = self.learning_rate()
        return optax.chain(
            optax.clip_by_global_norm(CLIP), self.how.optimizer(lambda momentum: optax.sgd(rate))
        )

    def stops(self) -> list[int]:
        """Steps at which the server's model is tested."""
        shares = (0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 11)))
        return sorted({max(1, round(self.iterations * share)) for share in shares})


def table(seeds: int, iterations: int, hidden: int) -> Iterator[Run]:
    """The methods beside each other."""
    for seed in range(seeds):
        for name in TABLE:
            how = METHODS[name]
            yield Run(how.kind, how.every, how.density, seed, iterations, hidden)


def grid(seeds: int, iterations: int, hidden: int) -> Iterator[Run]:
    """Figure 3: local steps by density; density 1 is dense exchange or FedAvg, whose values are not made one."""
    for seed in range(seeds):
        for every in GRID_STEPS:
            for density in GRID_DENSITIES:
                whole = "dense" if every == 1 else "fedavg"
                kind = whole if density == 1.0 else "sbc"
                yield Run(kind, every, density, seed, iterations, hidden)
