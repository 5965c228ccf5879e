"""Tables from the result files alone.

    python -m experiments.scaling.report --out=experiments/scaling/results

Writes `tables.md`, and `measured.json`: the bare collectives, which `experiments.cost_model` compares its model with.
The tables of the results in this package also go into the README.
"""

import json
from pathlib import Path

from experiments.results import main, publish
from experiments.scaling import tables
from sparsetrain.training.metrics import replace_text

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
MEASURED = "measured.json"


def write(out: Path) -> None:
    """Writes tables and rows into the folder of the results, and the tables of our own into the README.

    Raises:
      ValueError: no results there.
    """
    found = {
        result["workers"]: result
        for result in (json.loads(path.read_text()) for path in sorted(out.glob("workers_*.json")))
    }
    if not found:
        raise ValueError(f"{out} holds no results: run  python -m experiments.scaling")
    publish(tables.text(found), out, README)
    rows = "\n".join(f" {json.dumps(row)}," for row in tables.measured(found)).rstrip(",")
    replace_text(out / MEASURED, f"[\n{rows}\n]\n")


if __name__ == "__main__":
    main("experiments.scaling", write, RESULTS)
