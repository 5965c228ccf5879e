"""One run to one result file, and what the tuning files say."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.grid import write_once
from experiments.msbp_gains import runs, training
from experiments.msbp_gains.runs import Block, Method, Run
from experiments.results import Record


def record(run: Run, out: Path, load: Callable[[], training.Splits] = training.load) -> bool:
    """Trains all lanes of a run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      load: gives the data; the tests take fewer.

    Returns:
      Whether there was something to do.
    """
    return write_once(run, out, lambda: training.train(run, load()))


def best_rate(content: Record) -> float:
    """The learning rate of the highest mean validation accuracy over the tuning seeds; the lower of equals.

    Example:
      >>> best_rate({"rates": [0.1, 0.2], "validation": [[0.5, 0.7], [0.4, 0.7]]})
      0.1
    """
    means = np.mean(content["validation"], axis=1)
    return float(content["rates"][int(np.argmax(means))])


def tuned(out: Path, setup: str, method: Method) -> float:
    """The learning rate that a method's tuning run in a setup found.

    Raises:
      FileNotFoundError: that run has no result yet.
    """
    (run,) = Block(setup, (method,)).tuning()
    return best_rate(json.loads((out / f"{run.name}.json").read_text()))


def evaluation(block: Block, out: Path) -> list[Run]:
    """Runs of a block that are reported, at the learning rates that its tuning found."""
    return list(block.evaluation(functools.partial(tuned, out)))


def comparable(content: Record) -> tuple[str, Method, float]:
    """(setup, method, learning rate) of an evaluation file."""
    return content["setup"], runs.Method(**content["method"]), content["rates"][0]
