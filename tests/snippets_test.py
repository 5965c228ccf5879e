"""What the documentation tells a reader to type works.

The Python blocks of one section (down to the next heading of level 1 or 2) run in order in one namespace.
Of commands, make targets, modules, configs and extras must exist.
"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(
            p
            for folder in ("docs", "experiments", "benchmarks")
            for p in (ROOT / folder).rglob("*.md")
        ),
    )
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMES = {path: str(path.relative_to(ROOT)) for path in DOCUMENTS}


def sections(text: str) -> list[tuple[str, list[str]]]:
    """Heading and Python blocks of each section that has any; blank lines keep the line numbers."""
    # A '#' inside a fence is a comment, not a heading.
    hidden = FENCE.sub(lambda m: re.sub(r"^#", " ", m[0], flags=re.MULTILINE), text)
    starts = [m.start() for m in re.finditer(r"^##? ", hidden, re.MULTILINE)]
    found = []
    for start, stop in zip([0, *starts], [*starts, len(text)], strict=True):
        blocks = [
            "\n" * (text.count("\n", 0, start + m.start()) + 1) + m[2]
            for m in FENCE.finditer(text[start:stop])
            if m[1] == "python"
        ]
        if blocks:
            found.append((text[start:stop].split("\n", 1)[0].lstrip("# "), blocks))
    return found


SECTIONS = [
    pytest.param(path, blocks, id=f"{NAMES[path]}: {heading}")
    for path in DOCUMENTS
    for heading, blocks in sections(path.read_text())
]


@pytest.mark.parametrize(("path", "blocks"), SECTIONS)
def test_python_blocks_run(path, blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, path, "exec"), namespace)


def commands(text):
    for match in FENCE.finditer(text):
        if match[1] in ("", "bash", "console", "sh", "shell"):
            yield from match[2].replace("\\\n", " ").splitlines()
    # Inline code too: documents name commands in running text.
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def extras():
    tree = ast.parse((ROOT / "setup.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS":
            return {*ast.literal_eval(node.value), "all"}
    raise AssertionError("setup.py has no EXTRAS")


def wrong_in(text):
    """Parts of commands that name something that does not exist."""
    make = subprocess.run(
        ["make", "-npq"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    targets = set(re.findall(r"^([a-z][a-z-]*):", make, re.MULTILINE))
    assert {"demo", "test", "test-newest"} <= targets
    wrong = []
    for line in commands(text):
        for target in re.findall(r"(?:^|[;&] ?|\$ )make ([a-z][a-z-]*)", line):
            wrong += [f"make {target}"] * (target not in targets)
        for module in re.findall(
            r"python3? -m ((?:experiments|benchmarks|sparsetrain)[\w.]*)", line
        ):
            base = ROOT / module.replace(".", "/")
            exists = base.with_suffix(".py").exists() or (base / "__main__.py").exists()
            wrong += [module] * (not exists)
        for config in re.findall(r"--config=([\w/]+\.py)", line):
            wrong += [config] * (not (ROOT / config).exists())
        for names in re.findall(r"(?:sparsetrain|\.)\[([\w,-]+)\]", line):
            wrong += sorted(set(names.split(",")) - extras())
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES.get)
def test_commands_name_what_exists(path):
    assert not wrong_in(path.read_text())


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES.get)
def test_links_to_files_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", path.read_text())):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


def test_mistakes_in_commands_are_seen():
    text = """
```bash
make demmo
python -m experiments.nothing --config=configs/none.py
pip install 'sparsetrain[trane,train]' && pip install -e '.[tset]'
```
and `make demo`, `make tset`.
"""
    expected = {
        "make demmo",
        "make tset",
        "experiments.nothing",
        "configs/none.py",
        "trane",
        "tset",
    }
    assert set(wrong_in(text)) == expected


def test_sections_share_a_namespace_and_keep_their_lines():
    python = "```python\n{}\n```\n"
    text = "# A\n" + python.format("# note\nx = 1") + "then\n" + python.format("y = x")
    text += "## B\n```bash\nls\n```\n## C\n" + python.format("z")
    found = sections(text)
    assert [heading for heading, _ in found] == ["A", "C"]
    assert [len(blocks) for _, blocks in found] == [2, 1]
    first, second = found[0][1]
    assert first.split("\n")[3] == "x = 1"
    assert text.split("\n")[second.count("\n") - 1] == "y = x"
