"""Command lines of the benchmarks, and where their records go."""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import machine


def main(doc: str | None, run: Callable[[bool], dict[str, Any]], name: str) -> None:
    """The command line of a benchmark with no options of its own.

    Args:
      doc: of its module.
      run: quick -> the record that is written as JSON.
      name: file in benchmarks/results of a whole run.
    """
    options = parser(doc).parse_args()
    machine.use_cores(options.cores)
    save(run(options.quick), options.out, name, is_whole=not options.quick)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that benchmarks have in common."""
    # Not absl's flags: several benchmarks that are imported together would define the same names.
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file; default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="few calls: tests the script itself")
    parser.add_argument("--cores", type=int, default=1, help="processor cores; 0 for all")
    return parser


def save(record: dict[str, Any], out: str | pathlib.Path | None, name: str, is_whole: bool) -> None:
    """Writes a record as JSON and says where.

    Args:
      record: of a run.
      out: path; None for the default, which only a whole run has.
      name: file in benchmarks/results of a whole run.
      is_whole: whether nothing was left out or made small.
    """
    if out is None and is_whole:
        out = pathlib.Path(__file__).parent / "results" / name
    if out is not None:
        path = pathlib.Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten to {path}")
