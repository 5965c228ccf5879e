"""Sparse against dense backward passes: layers and whole training steps.

    python -m benchmarks.backward                  everything, on one core; about 15 minutes
    python -m benchmarks.backward --only='784->500,|MLP 784-500-'
    python -m benchmarks.backward --quick          tiny shapes, seconds; no claim can rest on it

One process times all candidates of a case in shuffled blocks; the ratio of two medians is what to
read, not the times. A dense gradient is timed twice: into fresh memory, which the system must map
in at every call, and into memory that is used again. The latter is the harder baseline.
"""

import datetime
import gc
import itertools
import re
from typing import Any

import jax
from absl import app, flags, logging

from benchmarks import (
    backward_layer,
    backward_step,
    command,
    eager_torch,
    machine,
    report,
    timing,
)
from benchmarks.report import Target

_OUT = flags.DEFINE_string("out", None, "JSON file; a whole run writes one to benchmarks/results.")
_QUICK = flags.DEFINE_bool("quick", False, "Tiny shapes and few calls: tests the script itself.")
_CORES = flags.DEFINE_integer("cores", 1, "Processor cores to run on; 0 for all.", lower_bound=0)
_ONLY = flags.DEFINE_string("only", "", "Regular expression; only cases whose title it finds.")
_ROWS = flags.DEFINE_string(
    "rows", "", "Regular expression; only rows whose name holds it, and baselines."
)
_TORCH = flags.DEFINE_bool("torch", True, "Time PyTorch too, where it is installed.")

_FAST_LAYER = "unified + memory, row-sparse out_in"
_LINEN = "nn.Dense, unified + memory, row-sparse in_out"
_UNION = "memorized union, row-sparse out_in"
_FAST_STEP = "unified + memory, row_sparse.adam out_in"
_SMALL, _LARGE = (backward_step.CASES[i].title for i in (0, 1))
TARGETS = (
    Target("layer 784->500, B=32, k=20", _FAST_LAYER, "fresh dW", 7, 9.74),
    Target("layer 784->500, B=32, k=20", _LINEN, "fresh dW", 4, 4),
    Target("layer 5000->5000, B=32, k=5", _FAST_LAYER, "dW in place", 62, 62),
    Target("layer 5000->5000, B=32, k=5", _UNION, "dW in place", 20, 62),
    Target(_SMALL, f"{_FAST_STEP} (one call)", "adam", 2.5, 2.5),
    Target(_SMALL, f"{_FAST_STEP} (scan)", "adam", 2.5, 2.5),
    Target(_LARGE, f"{_FAST_STEP} (one call)", "adam", 7, 7),
    Target(_LARGE, f"{_FAST_STEP} (scan)", "adam", 7, 7),
)


def _wait(result: Any) -> Any:
    return jax.block_until_ready(result)


def run(
    quick: bool = False, only: str = "", wanted: str = "", with_torch: bool = True
) -> dict[str, Any]:
    """Times the cases and prints their tables.

    Args:
      quick: tiny shapes and few calls.
      only: regular expression on the titles of the cases.
      wanted: regular expression on the names of their rows; baselines always stay.
      with_torch: whether PyTorch takes part, where it is installed and JAX runs on the CPU.

    Returns:
      The record that is written as JSON.

    Raises:
      ValueError: `only` finds no case.
    """
    layers = backward_layer.QUICK_CASES if quick else backward_layer.CASES
    steps = backward_step.QUICK_CASES if quick else backward_step.CASES
    cases = [case for case in (*layers, *steps) if re.search(only, case.title)]
    if not cases:
        titles = "; ".join(case.title for case in (*layers, *steps))
        raise ValueError(f"only={only!r}: finds no case; the cases are: {titles}")
    torch = None
    if with_torch and eager_torch.is_installed() and jax.default_backend() == "cpu":
        torch = eager_torch.load(machine.cores_in_use())
    effort = timing.QUICK if quick else timing.Effort()
    records: list[dict[str, Any]] = []
    for case in cases:
        is_layer = isinstance(case, backward_layer.LayerCase)
        ours = (backward_layer if is_layer else backward_step).candidates(case, wanted)
        eager: Any = ()
        if torch is not None:
            make = eager_torch.layer_candidates if is_layer else eager_torch.step_candidates
            eager = make(torch, case)
        candidates = list(itertools.chain(ours, eager))
        functions = {candidate.name: candidate.run for candidate in candidates}
        units = {candidate.name: candidate.steps for candidate in candidates}
        times = timing.measure(functions, _wait, effort, units)
        found = report.rows(case.title, candidates, times)
        print(f"\n## {case.title}\n{report.table(found)}", flush=True)
        records += found
        del ours, eager, candidates, functions
        gc.collect()  # the buffers of a large case must be gone before the next
    results = report.check(TARGETS, records)
    if results:
        print(f"\n## Targets\n{report.verdicts(results)}", flush=True)
    return {
        "benchmark": "backward",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
        "effort": effort._asdict(),
        "targets": results,
        "rows": records,
    }


def main(argv: list[str]) -> None:
    """Command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # JAX lists the backends that it does not find
    machine.use_cores(_CORES.value)
    record = run(_QUICK.value, _ONLY.value, _ROWS.value, _TORCH.value)
    name = f"backward_{record['machine']['backend']}.json"
    is_whole = not (_QUICK.value or _ONLY.value or _ROWS.value)
    command.save(record, _OUT.value, name, is_whole)


if __name__ == "__main__":
    app.run(main)
