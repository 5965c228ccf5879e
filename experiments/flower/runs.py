"""The grid: which runs the tables are made of."""

import dataclasses
from collections.abc import Iterator, Sequence

from experiments.flower.methods import METHODS, Method

ALPHAS, DROPOUTS = (None, 0.1), (0.0, 0.3)


@dataclasses.dataclass(frozen=True)
class Run:
    """One federated training.

    Attributes:
      method: key of `METHODS`.
      alpha: of the Dirichlet split; None for an iid one.
      dropout: probability that an invited client fails.
      seed: fixes initialisation, split, batches, invitations and failures, the same for every method.
      data: name of the data set.
      rounds: of communication.
      clients: W.
      fraction: of them that are invited to a round.
      steps: local steps in a turn.
      batch: examples of a local step.
      learning_rate: of the local SGD.
    """

    method: str
    alpha: float | None
    dropout: float
    seed: int
    data: str = "digits"
    rounds: int = 40
    clients: int = 10
    fraction: float = 0.5
    steps: int = 10
    batch: int = 20
    learning_rate: float = 0.1

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("sbc_1", alpha=0.1, dropout=0.3, seed=0).name
          'digits_sbc_1_dirichlet0.1_dropout0.3_rounds40_seed0'
        """
        split = "iid" if self.alpha is None else f"dirichlet{self.alpha:g}"
        return f"{self.data}_{self.method}_{split}_dropout{self.dropout:g}_rounds{self.rounds}_seed{self.seed}"

    @property
    def how(self) -> Method:
        """The method itself."""
        return METHODS[self.method]


def grid(
    seeds: int, data: str = "digits", rounds: int = 40, methods: Sequence[str] = tuple(METHODS)
) -> Iterator[Run]:
    """Every method and setting of one seed before the next seed, so that a grid cut short is balanced."""
    for seed in range(seeds):
        for alpha in ALPHAS:
            for dropout in DROPOUTS:
                for method in methods:
                    yield Run(method, alpha, dropout, seed, data, rounds)
