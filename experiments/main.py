"""Trains one configuration; killed and started again with the same command it continues.

    python -m experiments.main --config=configs/digits.py --workdir=runs/digits \\
        --config.backward.density=0.04

Anything wrong with the request is one sentence on standard error and exit code 1.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

try:
    from absl import app, flags
    from ml_collections import config_flags

    from experiments import sent
    from sparsetrain import runtime
    from sparsetrain.training import ConfigError, Result, loop
except ImportError as error:
    sys.exit(f"{error}: install what training needs with  pip install 'sparsetrain[train]'")

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; it is made if absent.")


def parse(argv: Sequence[str]) -> list[str]:
    """Flags, with any mistake in them as one sentence."""
    try:
        rest = flags.FLAGS(argv)
        given = {"config": CONFIG.value, "workdir": WORKDIR.value}
    except Exception as error:  # Flag errors, and whatever a config file raises when it is run.
        text = one_line(error)
        # Of an unknown field ml_collections says its quoted name, and perhaps: Did you mean "name".
        if field := re.match(r"[^\w ]+(\w+)[^\w ]", text):
            hint = re.search(r"mean \W*(\w+)", text)
            text = f"config has no field {field[1]!r}" + (f", perhaps {hint[1]!r}" if hint else "")
        sys.exit(f"{text}: see --help and the file given as --config")
    missing = [name for name, value in given.items() if not value]
    if missing or len(rest) > 1:
        wrong = f"--{missing[0]} is missing" if missing else f"{rest[1]!r} is not a flag"
        sys.exit(
            f"{wrong}: write  --config=configs/digits.py --config.epochs=5 --workdir=runs/digits"
        )
    return rest


def one_line(error: Exception) -> str:
    """The error's text without line breaks and closing period."""
    return " ".join(str(error).split()).rstrip(".")


def main(argv: Sequence[str]) -> None:
    del argv
    with runtime.start() as job:
        try:
            result = loop.train_and_evaluate(CONFIG.value, str(WORKDIR.value))
        except ConfigError as error:
            sys.exit(one_line(error))
        if job.index == 0:
            show(result)


def scores(summary: Mapping[str, Any]) -> str:
    """A sentence of a run's scores on the test examples.

    Example:
      >>> summary = {"best_epoch": 3, "best_validation_perplexity": 97.0, "test_perplexity_at_best": 98.1}
      >>> scores(summary | {"test_perplexity": 99.25})
      'test perplexity 99.25 at the end, 98.10 at the best validation epoch (3)'
    """
    # Named for the score that chose the best epoch; a task may have others.
    chosen = next(name for name in summary if name.startswith("best_validation_"))
    score = chosen.removeprefix("best_validation_")

    def shown(name: str) -> str:
        value = summary[f"test_{name}"]
        return "not finite" if value is None else f"{value:.{2 if value > 2 else 4}f}"

    others = [
        f", {name.removeprefix('test_').replace('_', ' ')} {shown(name.removeprefix('test_'))}"
        for name in summary
        if name.startswith("test_") and name not in (f"test_{score}", f"test_{score}_at_best")
    ]
    return (
        f"test {score.replace('_', ' ')} {shown(score)} at the end, {shown(f'{score}_at_best')} at the best "
        f"validation epoch ({summary['best_epoch']}){''.join(others)}"
    )


def show(result: Result) -> None:
    """One line of scores, and one of what was sent."""
    print(scores(result.summary))
    if sent.has_sent(result.summary):
        print(sent.sentence(result.summary))


if __name__ == "__main__":
    # Warnings only; orbax tells much at the level below.
    quiet = [sys.argv[0], "--verbosity=-1", *sys.argv[1:]]
    app.run(main, argv=quiet, flags_parser=parse)
