"""Result files read back, and tables put where they belong."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results: written by report.py -->", "<!-- end of results -->"
Record = Mapping[str, Any]


def read(out: Path, cure: str) -> list[Record]:
    """All result files of a folder.

    Args:
      out: folder of the results.
      cure: command to run first, as the error is to end.

    Returns:
      Their contents, in the order of the names.

    Raises:
      ValueError: no results there.
    """
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*_seed*.json"))]
    if not records:
        raise ValueError(f"{out} holds no results: run  {cure}")
    return records


def publish(tables: str, out: Path, readme: Path) -> None:
    """Writes `tables.md` into the folder of the results, and those of the package also into its README.

    Args:
      tables: Markdown.
      out: folder of the results.
      readme: beside the package's own folder of results.
    """
    (out / "tables.md").write_text(tables)
    if out.resolve() == (readme.parent / "results").resolve():
        embed(readme, tables)


def embed(readme: Path, tables_text: str) -> None:
    """Replaces what stands between the README's two marks.

    Raises:
      ValueError: a mark is missing.
    """
    embed_between(readme, tables_text, (BEGIN, END))


def embed_between(page: Path, tables_text: str, marks: tuple[str, str]) -> None:
    """The same for any page and two marks of its own.

    Raises:
      ValueError: a mark is missing.
    """
    content, (begin, end) = page.read_text(), marks
    if begin not in content or end not in content:
        raise ValueError(f"{page} has no place for the tables: give it {begin!r} and {end!r}")
    before, after = content.split(begin)[0], content.split(end)[1]
    page.write_text(f"{before}{begin}\n{tables_text}\n{end}{after}")


def main(name: str, write: Callable[[Path], None], results: Path) -> None:
    """The command line of an experiment's report: writes everything anew.

    Args:
      name: of the experiment's package.
      write: makes tables and plots in a folder of results.
      results: the package's own folder of them.
    """
    parser = argparse.ArgumentParser(f"python -m {name}.report")
    parser.add_argument("--out", type=Path, default=results, help="folder of the results")
    try:
        write(parser.parse_args().out)
    except ValueError as error:
        sys.exit(str(error))
