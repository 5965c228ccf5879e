"""One run to one result file: never a partial one, never a finished one again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.grid import write_once
from experiments.three_levers import costs
from experiments.three_levers.runs import Run
from sparsetrain import masks, tree
from sparsetrain.compress.local_steps import LocalStepsState
from sparsetrain.training import progress, train_and_evaluate
from sparsetrain.training.state import TrainState

CURVES = ("train_loss", "validation_accuracy", "test_accuracy", "density", "bits_sent")
SENT = ("bits_sent", "dense_bits", "wire_bytes")


def record(
    run: Run,
    out: Path,
    scratch: Path,
    change: Callable[[ml_collections.ConfigDict], None] = lambda config: None,
) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      scratch: folder of the run while it goes on; a run cut off continues there, and a finished one is removed.
      change: edits the config before it is used; the tests shrink the job with it.

    Returns:
      Whether there was something to do.
    """
    config = run.config()
    change(config)
    done = write_once(run, out, lambda: train(config, scratch / run.name))
    shutil.rmtree(scratch / run.name, ignore_errors=True)
    return done


def train(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, Any]:
    """Accuracy at the end, what it cost, and curves.

    Args:
      config: of the run.
      workdir: folder of the run while it goes on.

    Returns:
      The fields of a result file that are measured.
    """
    result = train_and_evaluate(config, workdir, progress.Silent())
    summary = result.summary
    return {
        "steps": summary["steps"],
        "test_accuracy": summary["test_accuracy"],
        "validation_accuracy": summary["validation_accuracy"],
        **{name: summary[name] for name in SENT},
        "backward_flops": costs.backward_flops(config, summary["steps"]),
        **weights(result.state),
        "workers_agree": agree(result.state),
        "curves": {
            name: [round(line[name], 6) for line in result.history]
            for name in CURVES
            if name in result.history[0]
        },
    }


def weights(state: TrainState) -> dict[str, int]:
    """Weights of the trained network that are there and that are not zero, and hidden units without a weight.

    Args:
      state: at the end of a run, with the workers in front.

    Returns:
      "weights" and "live_weights", biases included, and "dead_units", whose weights from the layer below are all zero.
    """
    one = jax.tree.map(lambda leaf: np.asarray(leaf[0]), state.variables["params"])
    leaves = jax.tree.leaves(one)
    hidden = [layer["kernel"] for name, layer in one.items() if name.startswith("hidden")]
    return {
        "weights": sum(leaf.size for leaf in leaves),
        # What is masked is zero, and what is not hardly ever is; a bias may be, and counts.
        "live_weights": sum(
            int(np.count_nonzero(leaf)) if leaf.ndim > 1 else leaf.size for leaf in leaves
        ),
        "dead_units": sum(int((~kernel.any(axis=0)).sum()) for kernel in hidden),
    }


def agree(state: TrainState) -> bool:
    """Whether all workers hold the same masks, and with local steps the same anchor, to the bit."""
    shared = [node.anchor for node in tree.nodes(LocalStepsState, state.opt_state)]
    if masks.are_in(state.opt_state):
        shared.append(masks.find(state.opt_state).masks)
    return all(bool((leaf == leaf[:1]).all()) for leaf in map(np.asarray, jax.tree.leaves(shared)))
