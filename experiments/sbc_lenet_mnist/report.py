"""Tables and plots from the result files alone.

    python -m experiments.sbc_lenet_mnist.report --out=experiments/sbc_lenet_mnist/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the README.
"""

from pathlib import Path

from experiments.results import main, publish
from experiments.sbc_lenet_mnist import plots, tables
from experiments.sbc_lenet_mnist.methods import METHODS
from experiments.sbc_lenet_mnist.results import Runs, load

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"


def text(runs: Runs) -> str:
    """All tables, each under its heading.

    Args:
      runs: as from `results.load`.

    Returns:
      Markdown.
    """
    record = next(iter(next(iter(runs.values())).values()))
    parts = [
        f"### LeNet5 on MNIST, {record['clients']} clients, {record['iterations']:,} iterations",
        tables.main(runs),
    ]
    if any(METHODS[name].kind == "sbc" for name in runs):
        parts += [
            "### Tensor by tensor, all messages of a run",
            tables.tensors(runs),
            "### The last message made again, in other ways",
            tables.shared(runs),
        ]
    return "\n\n".join(parts) + "\n"


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results, and the tables of our own into the README."""
    runs = load(out)
    publish(text(runs), out, README)
    plots.error(runs, "iteration", out / "error_iterations.png")
    plots.error(runs, "bits", out / "error_bits.png")


if __name__ == "__main__":
    main("experiments.sbc_lenet_mnist", write, RESULTS)
