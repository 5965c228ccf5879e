"""Trains one configuration; killed and started again with the same command it continues.

    python -m experiments.main --config=configs/digits.py --workdir=runs/digits \\
        --config.backward.density=0.04

Anything wrong with the request is one sentence on standard error and exit code 1.
"""

import re
import sys
from collections.abc import Sequence

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


def show(result: Result) -> None:
    """One line of accuracies, and one of what was sent."""
    print(
        f"test accuracy {result.summary['test_accuracy']:.4f} at the end, "
        f"{result.summary['test_accuracy_at_best']:.4f} at the best validation epoch "
        f"({result.summary['best_epoch']})"
    )
    if sent.has_sent(result.summary):
        print(sent.sentence(result.summary))


if __name__ == "__main__":
    # Warnings only; orbax tells much at the level below.
    quiet = [sys.argv[0], "--verbosity=-1", *sys.argv[1:]]
    app.run(main, argv=quiet, flags_parser=parse)
