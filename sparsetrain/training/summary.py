"""What a finished run comes to: its last evaluation, and the one that validation would choose."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsetrain.training.tasks import Task

# Of a run with a compressed exchange, see `compress.report`.
SENT = ("bits_sent", "wire_bytes", "moved_bytes", "dense_bits", "compression_ratio")
# Of a run with masks, see `masks.report`.
MASKED = ("density", "mask_error")


def summarize(history: Sequence[dict[str, Any]], task: Task) -> dict[str, Any]:
    """Contents of `summary.json`.

    Args:
      history: records of the evaluations, at least one.
      task: whose score chooses the best epoch.

    Returns:
      Of the last record its scores and measures; `best_epoch`, `best_validation_<score>` and
      `test_<score>_at_best`.

    Example:
      >>> from sparsetrain.training.tasks import Images
      >>> measures = {"train_loss": 0.1, "kept_fraction": 1.0, "memory_norm": 0.0, "seconds_per_step": 0.1}
      >>> history = [
      ...     {"step": 10 * e, "epoch": e, "validation_accuracy": v, "test_accuracy": t, **measures}
      ...     for e, v, t in ((1, 0.9, 0.7), (2, 0.8, 0.6))
      ... ]
      >>> found = summarize(history, Images(10))
      >>> found["best_epoch"], found["test_accuracy_at_best"], found["test_accuracy"]
      (1, 0.7, 0.6)
    """
    # With masks only what is as sparse as the end of the run may be called its best.
    sparsest = history[-1].get("density", 1.0)
    final = [record for record in history if record.get("density", 1.0) <= sparsest + 1e-6]
    score, sign = task.score, 1 if task.is_higher_better else -1

    def merit(record: dict[str, Any]) -> float:
        value = record[f"validation_{score}"]
        return -math.inf if value is None else sign * value

    best, last = max(final, key=merit), history[-1]
    seconds = [record["seconds_per_step"] for record in history]
    return {
        "steps": last["step"],
        "epochs": last["epoch"],
        "best_epoch": best["epoch"],
        f"best_validation_{score}": best[f"validation_{score}"],
        f"test_{score}_at_best": best[f"test_{score}"],
        **{name: last[name] for name in last if name.startswith(("validation_", "test_"))},
        "train_loss": last["train_loss"],
        "kept_fraction": last["kept_fraction"],
        "memory_norm": last["memory_norm"],
        **{name: last[name] for name in last if name.startswith("gradient_angle")},
        **{name: last[name] for name in (*SENT, *MASKED) if name in last},
        "seconds_per_step": float(np.median(seconds)),
    }
