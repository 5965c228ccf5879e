"""Which workers made which steps of a run: its stages, on disk beside the checkpoints.

With another number of workers an epoch has another number of steps, so that a step alone does not tell how far
the data have been read. Steps are counted on; where the workers change, a new stage begins.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sparsetrain.training.metrics import replace_text

NAME = "stages.json"


class Stage(NamedTuple):
    """Steps in a row by as many workers.

    Attributes:
      step: done before it.
      epoch: done before it.
      workers: who made the steps behind that.
    """

    step: int
    epoch: int
    workers: int

    def epochs(self, step: int, per_epoch: int) -> int:
        """Epochs done when so many steps are.

        Example:
          >>> Stage(20, 2, 8).epochs(25, per_epoch=5)
          3
        """
        return self.epoch + (step - self.step) // per_epoch


def read(workdir: Path) -> list[Stage]:
    """The stages of a run; none where it has not begun."""
    path = workdir / NAME
    return [Stage(**each) for each in json.loads(path.read_text())] if path.exists() else []


def write(workdir: Path, stages: Sequence[Stage]) -> None:
    """Replaces them all at once.

    Example:
      >>> import tempfile
      >>> workdir = Path(tempfile.mkdtemp())
      >>> write(workdir, [Stage(0, 0, 4)])
      >>> read(workdir)
      [Stage(step=0, epoch=0, workers=4)]
    """
    replace_text(workdir / NAME, json.dumps([each._asdict() for each in stages]) + "\n")


def that_made(step: int, stages: Sequence[Stage]) -> Stage:
    """The stage that a checkpoint comes from.

    One that begins with the checkpoint has read it, and may have ended before it wrote one of its own.

    Args:
      step: of the checkpoint.
      stages: in their order, at least one.

    Example:
      >>> stages = [Stage(0, 0, 4), Stage(20, 2, 8)]
      >>> that_made(20, stages).workers, that_made(25, stages).workers
      (4, 8)
    """
    return [each for each in stages if each.step < step or each is stages[0]][-1]
