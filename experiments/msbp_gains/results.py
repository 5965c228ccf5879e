"""Result files read back: learning rates that tuning found, and test accuracies by side of a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.msbp_gains.comparisons import REGULARISED, Comparison, Side
from experiments.msbp_gains.record import best_rate
from experiments.msbp_gains.runs import DENSE, PAPER_RATE, Method
from experiments.results import Record, read
from experiments.statistics import Interval, PValues, holm, paired_difference, paired_tests


class Results(NamedTuple):
    """All result files of a folder.

    Attributes:
      tuning: (setup, method) -> content.
      evaluation: (setup, method, learning rate) -> content.
    """

    tuning: Mapping[tuple[str, Method], Record]
    evaluation: Mapping[tuple[str, Method, float], Record]

    def settled(self, side: Side) -> Side:
        """The side with the setup's own name in the place of "regularised".

        Raises:
          KeyError: nothing is tuned yet.
        """
        if side.setup != "regularised":
            return side
        tuned = {s: self.tuning[s, DENSE] for s in REGULARISED if (s, DENSE) in self.tuning}
        if len(tuned) < len(REGULARISED):
            raise KeyError("regularised")
        return side._replace(setup=max(tuned, key=lambda setup: best_validation(tuned[setup])))

    def rate(self, side: Side) -> float:
        """Learning rate of a side.

        Raises:
          KeyError: it is not tuned yet.
        """
        setup, method, at = self.settled(side)
        if at == "a":
            return PAPER_RATE
        if at == "m":
            return best_rate(self.tuning["main", method])
        return best_rate(self.tuning[setup, DENSE if at == "c" else method])

    def values(self, side: Side, field: str = "test") -> dict[int, float]:
        """Seed -> test accuracy in %.

        Args:
          side: of a comparison.
          field: "test" at the best validation epoch, "test_at_end", or "curve <epoch>".

        Returns:
          Empty where that was not run, or not for so many epochs.
        """
        kind, _, epoch = field.partition(" ")
        try:
            settled = self.settled(side)
            content = self.evaluation[settled.setup, settled.method, self.rate(side)]
            found = content[kind][epoch] if epoch else content[kind]
        except KeyError:
            return {}
        return {seed: 100 * x for seed, x in zip(content["seeds"], found[0], strict=True)}


class Finding(NamedTuple):
    """A comparison with what was measured.

    Attributes:
      comparison: what was compared.
      interval: of the difference in points.
      p: of the two tests.
      holm: the same corrected for the family.
    """

    comparison: Comparison
    interval: Interval
    p: PValues
    holm: PValues


def load(out: Path) -> Results:
    """All results of a folder.

    Raises:
      ValueError: none there.
    """
    tuning, evaluation = {}, {}
    for content in read(out, "python -m experiments.msbp_gains"):
        of_run = content["setup"], Method(**content["method"])
        if content["stage"] == "tuning":
            tuning[of_run] = content
        else:
            evaluation[*of_run, content["rates"][0]] = content
    return Results(tuning, evaluation)


def best_validation(content: Record) -> float:
    """The highest mean over seeds of any learning rate."""
    return float(np.mean(content["validation"], axis=1).max())


def findings(
    results: Results, comparisons: Sequence[Comparison], field: str = "test"
) -> list[Finding]:
    """What a family of comparisons came to; those without results are left out, and not corrected for.

    Args:
      results: of a folder.
      comparisons: the family.
      field: as for `Results.values`.
    """
    measured = []
    for each in comparisons:
        ours, theirs = (results.values(side, field) for side in (each.ours, each.theirs))
        if ours and theirs:
            found = paired_difference(ours, theirs)
            measured.append((each, found, paired_tests(ours, theirs)))
    corrected = zip(*(holm([p[i] for _, _, p in measured]) for i in (0, 1)), strict=True)
    return [Finding(*m, PValues(*c)) for m, c in zip(measured, corrected, strict=True)]
