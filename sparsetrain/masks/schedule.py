"""Which partition is dense when: a schedule is data, known before the run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

ORDERS = ("cyclic", "random", "parallel")


@dataclasses.dataclass(frozen=True)
class Phases:
    """Leaves that are dense in each phase.

    Attributes:
      grown: for every phase the paths that are dense in it; all others are sparse.
      labels: for every phase, what a reader calls them.
      steps_per_phase: updates of a phase.
    """

    grown: tuple[frozenset[str], ...]
    labels: tuple[str, ...]
    steps_per_phase: int

    @property
    def updates(self) -> int:
        """Updates of all phases; then everything is sparse, and fine-tuning begins."""
        return len(self.grown) * self.steps_per_phase

    def changes(self, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Which leaves are pruned and which are grown at the start of each phase, and at the end.

        Args:
          paths: L leaves.

        Returns:
          Two bool arrays [phases + 1, L]; the last rows are those of the end. A leaf may be pruned and
          grown again at once.
        """
        dense = np.array([[path in grown for path in paths] for grown in self.grown], bool)
        none = np.zeros((1, len(paths)), bool)
        before, after = np.concatenate([none, dense]), np.concatenate([dense, none])
        return before, after

    def __str__(self) -> str:
        lines = [f"{'phase':>5s} {'updates':>15s}  {'grow':20s} prune"]
        before = "-"
        for number, label in enumerate((*self.labels, "-")):
            first = number * self.steps_per_phase
            is_last = number == len(self.labels)
            span = f"{first:,} on" if is_last else f"{first:,}-{first + self.steps_per_phase:,}"
            name = "end" if is_last else str(number)
            lines.append(f"{name:>5s} {span:>15s}  {label:20s} {before}")
            before = label
        return "\n".join(lines)


def phases(
    owners: Mapping[str, str],
    names: Sequence[str],
    count: int,
    steps_per_phase: int,
    order: str = "cyclic",
    seed: int = 0,
    exclude_last: bool = True,
) -> Phases:
    """The phases of cyclic grow-and-prune.

        phase t grows partition t mod kappa and prunes partition (t - 1) mod kappa

    Args:
      owners: path -> name of its partition.
      names: of the kappa partitions, in order.
      count: K, number of phases.
      steps_per_phase: updates of each.
      order: "cyclic"; "random": every phase grows floor(L / kappa) leaves drawn uniformly;
        "parallel": all partitions, each on its own worker.
      seed: of the draws.
      exclude_last: whether leaves grown in the phase before are left out of a draw (as far as
        enough others are there).

    Returns:
      The schedule; print it to see it.

    Raises:
      ValueError: an unknown order, or a count below 1.

    Reference: Ma et al., GaP (arXiv 2106.09857), Algorithm 1 and appendix A.2.

    Example:
      >>> print(phases({"a/kernel": "A", "b/kernel": "B"}, ("A", "B"), 3, 100))
      phase         updates  grow                 prune
          0           0-100  A                    -
          1         100-200  B                    A
          2         200-300  A                    B
        end          300 on  -                    A
    """
    if order not in ORDERS:
        raise ValueError(f"order={order!r}: choose one of {ORDERS}")
    if count < 1 or steps_per_phase < 1:
        raise ValueError(
            f"phases={count}, steps_per_phase={steps_per_phase}: must both be at least 1"
        )
    if order == "parallel":
        everything = tuple(frozenset(owners) for _ in range(count))
        return Phases(everything, ("each its own",) * count, steps_per_phase)
    if order == "cyclic":
        labels = [names[t % len(names)] for t in range(count)]
        grown = [frozenset(p for p, owner in owners.items() if owner == name) for name in labels]
        return Phases(tuple(grown), tuple(labels), steps_per_phase)
    # Sorted, since a dictionary that went through `jit` is.
    draw, paths = np.random.RandomState(seed), sorted(owners)
    size, last, drawn = max(1, len(paths) // len(names)), frozenset[str](), []
    for _ in range(count):
        free = [path for path in paths if not (exclude_last and path in last)]
        free = free if len(free) >= size else paths
        last = frozenset(free[i] for i in draw.permutation(len(free))[:size])
        drawn.append(last)
    return Phases(tuple(drawn), tuple(" ".join(sorted(each)) for each in drawn), steps_per_phase)


def seed_of(key: Any) -> int:
    """A seed for draws on the host, from a typed JAX key that is concrete.

    Example:
      >>> seed_of(jax.random.key(7))
      7
    """
    return int(np.asarray(jax.random.key_data(key)).ravel()[-1])
