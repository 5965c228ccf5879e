"""Writes the predictions as tables and plots.

    python -m experiments.cost_model
    python -m experiments.cost_model --measured=rows.json --out=runs/cost_model

Reads what the benchmarks have measured on a processor; measures nothing. `--measured` compares the model with
exchanges that were: see `validation.read`. Those that `experiments.scaling` has measured are compared without asking.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.cost_model import plots, tables, validation
    from experiments.cost_model.times import RESULTS
    from experiments.results import publish
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")

README = Path(__file__).parent / "README.md"
MEASURED = Path(__file__).parents[1] / "scaling" / "results" / "measured.json"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.cost_model")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of tables and plots")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="JSON of exchanges")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Writes everything anew."""
    options = parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    text = tables.text()
    if options.measured.exists():
        text += f"\n### Against measured exchanges\n\n{validation.table(validation.read(options.measured))}\n"
    publish(text, options.out, README)
    (options.out / "all_times.md").write_text(tables.long_text())
    plots.times(options.out / "times.png")
    plots.crossovers(options.out / "crossover.png")
    print(f"tables and plots: {options.out}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
