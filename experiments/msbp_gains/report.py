"""Tables and plots from the result files alone.

    python -m experiments.msbp_gains.report --out=experiments/msbp_gains/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the README.
"""

from pathlib import Path

from experiments.msbp_gains import plots, tables
from experiments.msbp_gains.results import load
from experiments.results import main, publish

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results, and the tables of our own into the README."""
    results = load(out)
    publish(tables.text(results), out, README)
    plots.gain_over_density(results, out / "gain_over_density.png")
    plots.validation_over_rate(results, out / "validation_over_rate.png")
    plots.accuracy_by_epoch(results, out / "accuracy_by_epoch.png")


if __name__ == "__main__":
    main("experiments.msbp_gains", write, RESULTS)
