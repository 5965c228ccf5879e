"""Dense, SBP and MSBP training side by side on the digits inside scikit-learn, in a minute or two.

    python -m experiments.demo --workdir=runs/demo

Prints a table and writes `report.html` and `results.json` into the work directory. Started again it
reads the runs that are there and makes the missing ones.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import jax
    import ml_collections
    import numpy as np
    from absl import app, flags

    from configs import digits
    from experiments import demo_report
    from sparsetrain.training import ConfigError, Result, progress, train_and_evaluate
except ImportError as error:
    sys.exit(f"{error}: install what the demo needs with  pip install 'sparsetrain[train]'")

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder of the runs and the report.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each method.", lower_bound=1)
EPOCHS = flags.DEFINE_integer("epochs", 15, "Passes over the training images.", lower_bound=1)


@dataclasses.dataclass(frozen=True)
class Method:
    """A line of the table: its name there, the rule, the fraction of gradient entries it keeps."""

    name: str
    rule: str
    density: float

    @property
    def folder(self) -> str:
        return f"{self.rule}_{self.density:g}"


METHODS = (
    Method("dense", "dense", 1.0),
    Method("SBP, 3 of 256", "top_k", 0.012),
    Method("MSBP, 3 of 256", "memorized_top_k", 0.012),
    Method("SBP, 10 of 256", "top_k", 0.04),
    Method("MSBP, 10 of 256", "memorized_top_k", 0.04),
)


def config_of(method: Method, seed: int, epochs: int) -> ml_collections.ConfigDict:
    """The digits config with one method and one seed."""
    config = digits.get_config()
    config.seed, config.epochs = seed, epochs
    config.backward.rule, config.backward.density = method.rule, method.density
    return config


class Part(progress.Silent):
    """One run's share of the whole demo's progress."""

    def __init__(self, whole: progress.Progress, number: int, runs: int, name: str) -> None:
        self._whole, self._number, self._runs, self._name = whole, number, runs, name
        self._total = 0

    def start(self, name: str, step: int, total: int) -> None:
        del name
        self._total = total
        if self._number == 0:
            self._whole.start("demo", step, total * self._runs)

    def advance(self, step: int, metrics: Mapping[str, float | None] | None = None) -> None:
        # A line of plain text per run is enough; a bar may show every evaluation.
        shown = metrics if isinstance(self._whole, progress.Bar) else None
        self._whole.advance(self._number * self._total + step, shown)

    def note(self, text: str) -> None:
        self._whole.note(text)

    def finish(self, result: Result, seconds: float) -> None:
        self._whole.advance((self._number + 1) * self._total)
        self.note(
            f"run {self._number + 1} of {self._runs}: {self._name}: test accuracy "
            f"{100 * result.summary['test_accuracy']:.1f} % ({seconds:.1f} s)"
        )


def run_all(workdir: Path, seeds: int, epochs: int) -> dict[str, list[Result]]:
    """Trains every method with every seed, or reads what an earlier call left.

    Args:
      workdir: each run has a folder `<rule>_<density>/seed_<n>` in it.
      seeds: runs of each method.
      epochs: length of each run.

    Returns:
      Method name -> its results, by seed.
    """
    results: dict[str, list[Result]] = {method.name: [] for method in METHODS}
    whole = progress.choose()
    jobs = [(method, seed) for method in METHODS for seed in range(seeds)]
    try:
        for number, (method, seed) in enumerate(jobs):
            part = Part(whole, number, len(jobs), f"{method.name}, seed {seed}")
            folder = workdir / f"epochs_{epochs}" / method.folder / f"seed_{seed}"
            begin = time.perf_counter()
            result = train_and_evaluate(config_of(method, seed, epochs), folder, part)
            part.finish(result, time.perf_counter() - begin)
            results[method.name].append(result)
    finally:
        whole.stop()
    return results


def statistics(results: Sequence[Result]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds of what the summaries hold.

    Args:
      results: finished runs of one method.

    Returns:
      Field of the summary -> {"mean", "std"}; std is 0 for a single run, None stands for "not
      measured".
    """
    table: dict[str, Any] = {}
    for field in results[0].summary:
        values = [result.summary[field] for result in results]
        if any(value is None for value in values):  # Not measured, or no number.
            table[field] = {"mean": None, "std": None}
            continue
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        table[field] = {"mean": float(np.mean(values)), "std": spread}
    return table


def main(argv: Sequence[str]) -> None:
    del argv
    begin = time.perf_counter()
    workdir = Path(WORKDIR.value)
    try:
        results = run_all(workdir, SEEDS.value, EPOCHS.value)
    except ConfigError as error:
        sys.exit(str(error))
    table = {name: statistics(runs) for name, runs in results.items()}
    demo_report.print_table(table)
    facts = {
        "seeds": SEEDS.value,
        "epochs": EPOCHS.value,
        "device": f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        "seconds": round(time.perf_counter() - begin, 1),
    }
    histories = {name: [run.history for run in runs] for name, runs in results.items()}
    content = {"facts": facts, "table": table, "histories": histories}
    (workdir / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    (workdir / "report.html").write_text(demo_report.page(table, histories, facts))
    print(f"report: {workdir / 'report.html'}    numbers: {workdir / 'results.json'}")


if __name__ == "__main__":
    # Warnings only; orbax tells much at the level below.
    quiet = [sys.argv[0], "--verbosity=-1", *sys.argv[1:]]
    app.run(main, argv=quiet)
