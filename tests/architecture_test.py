"""The house stands as README.md draws it: imports, files, and what importing costs."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sparsetrain"
FOLDERS = ("benchmarks", "configs", "experiments", "sparsetrain", "tests")


def rooms(readme: str) -> dict[str, set[str]]:
    """Package -> packages it may import, from the table under the heading "Rooms"."""
    section = re.search(r"^#+ Rooms[^\n]*\n(.*?)(?=^#+ |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert section, "README.md has no heading 'Rooms'"
    table: dict[str, set[str]] = {}
    for line in section[1].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        name = re.fullmatch(r"`(\w+)/?`", cells[0])
        if line.startswith("|") and name:
            assert name[1] not in table, f"README.md lists {name[1]} twice"
            table[name[1]] = set(re.findall(r"`(\w+)/?`", cells[1]))
    return table


def room(path: Path) -> str:
    """Package or single module directly under `sparsetrain` that a file belongs to."""
    first, *rest = path.relative_to(PACKAGE).parts
    return first if rest else first.removesuffix(".py")


def imported(source: str, module: str) -> Iterator[str]:
    """Dotted names of what a file of ours imports from us, lazy imports inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            # `from sparsetrain import data` names a room only together with what follows.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def edges() -> dict[str, dict[str, set[str]]]:
    """Room -> room that it imports -> files in which it does."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        here = room(path)
        if here == "__init__":
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        of_room = found.setdefault(here, {})
        for name in imported(path.read_text(), ".".join(parts)):
            if name.startswith("sparsetrain."):
                there = name.split(".")[1]
                if there != here and not there.startswith("__"):
                    of_room.setdefault(there, set()).add("/".join(parts))
    return found


def test_imports_keep_to_the_table_in_the_readme() -> None:
    table, found = rooms((ROOT / "README.md").read_text()), edges()
    assert table.keys() == found.keys(), "the table and the packages differ"
    wrong = {
        f"{here} -> {there}": sorted(files)
        for here, of_room in found.items()
        for there, files in of_room.items()
        if there not in table[here]
    }
    assert not wrong, f"README.md does not allow {wrong}"
    unknown = {here: allowed - table.keys() for here, allowed in table.items()}
    assert not any(unknown.values()), f"README.md allows packages that do not exist: {unknown}"


def test_every_package_is_promised_exactly_one_thing() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.split("\n## What is stable")[1].split("\n## ")[0]
    table = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| ")][2:]
    assert [name.strip() for name, *_ in table] == ["stable", "settling", "internal"]
    named = [name for *_, packages in table for name in re.findall(r"`(\w+)`", packages)]
    assert sorted(named) == sorted(rooms(readme))


def test_neither_the_table_nor_the_code_has_a_cycle() -> None:
    for graph in (rooms((ROOT / "README.md").read_text()), edges()):
        graphlib.TopologicalSorter(graph).prepare()  # Raises CycleError.


def test_the_reader_sees_every_kind_of_import() -> None:
    source = """
import sparsetrain.tree
from sparsetrain import data as d
from sparsetrain.wire.frame import pack
from . import sibling
from ..selection import exact
def lazy():
    from sparsetrain.masks import rigl
"""
    assert list(imported(source, "sparsetrain.backward.rule")) == [
        "sparsetrain.tree",
        "sparsetrain.data",
        "sparsetrain.wire.frame.pack",
        "sparsetrain.backward.sibling",
        "sparsetrain.selection.exact",
        "sparsetrain.masks.rigl",
    ]
    readme = "# x\n## Rooms\n\n| package | may import |\n|---|---|\n| `a` | `b`, `c` |\n| `b` | |\n## y\n| `z` | |"
    assert rooms(readme) == {"a": {"b", "c"}, "b": set()}


def test_the_core_and_the_levers_never_import_one_another() -> None:
    # Whatever the table says: the three levers are independent.
    levers = {"backward", "compress", "masks"}
    found = edges()
    assert not any(levers & found.get(lever, {}).keys() for lever in levers)


def test_files_are_named_for_their_concept_and_short() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    names = re.compile(r"(utils?|helpers?|common|misc|.*_v\d+|v\d+)(_test)?")
    assert not [path for path in files if names.fullmatch(path.stem)]
    folders = {path.parent for path in files}
    assert not [folder for folder in folders if names.fullmatch(folder.name)]
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    assert not {name: count for name, count in lines.items() if count > 400}


@pytest.mark.parametrize(
    ("statement", "strangers"),
    [
        (
            "from sparsetrain import backward, numerics, selection, tree",
            "flax tensorflow orbax sklearn matplotlib jax.experimental.pallas",
        ),
        ("from sparsetrain import data", "flax tensorflow tensorflow_datasets sklearn"),
        ("from sparsetrain import analysis", "flax tensorflow matplotlib"),
        ("import sparsetrain.training.loop", "tensorflow tensorflow_datasets"),
    ],
)
def test_importing_brings_no_stranger(statement: str, strangers: str) -> None:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "jax" in loaded
    assert not loaded & set(strangers.split())
