"""One run to one result file: never a partial one, never a finished one again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from experiments.grid import write_once
from experiments.paper_tables.runs import PARTS, Run
from sparsetrain.training import progress, train_and_evaluate


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

    def measure() -> dict[str, Any]:
        config = run.config()
        change(config)
        result = train_and_evaluate(config, scratch / run.name, progress.Silent())
        kept = {"steps", "epochs", "train_loss", "kept_fraction", "memory_norm"}
        kept |= {"bits_sent", "dense_bits", "density"}
        return {
            "score": PARTS[run.part].score,
            "summary": {
                name: value
                for name, value in result.summary.items()
                if name in kept or name.startswith(("test_", "validation_", "best_"))
            },
            "curves": {
                name: [line[name] for line in result.history]
                for name in result.history[0]
                if name == "train_loss" or name.startswith(("test_", "validation_"))
            },
        }

    done = write_once(run, out, measure)
    shutil.rmtree(scratch / run.name, ignore_errors=True)
    return done
