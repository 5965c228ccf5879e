"""Pages that are not written twice: the Markdown of the repository, and a page a package made from its docstrings."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sparsetrain"
# Links from these pages lead to files of the repository, which become files of the site.
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The order of the pages."""
    experiments = [{"Experiments": [_uri(page) for page in _experiments()]}]
    about = [{"Changes": "CHANGELOG.md"}, {"Contributing": "CONTRIBUTING.md"}]
    api = [{name: f"api/{name}.md"} for name in _packages()]
    config.nav = [{"Guide": "README.md"}, *experiments, {"API": api}, *about]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them, and what they link to."""
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    wanted = {*pages, *_experiments()}
    for page in list(wanted):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            if target.is_file() and target.is_relative_to(ROOT):
                wanted.add(target)
    for path in sorted(wanted):
        files.append(File.generated(config, _uri(path), abs_src_path=str(path)))
    for name in _packages():
        text = f"# sparsetrain.{name}\n\n::: sparsetrain.{name}\n"
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lists that follow their sentence without an empty line are lists all the same."""
    return re.sub(r"(?m)^(?![-\s|#>])(.+)\n(?=- )", r"\1\n\n", markdown)


def _experiments() -> list[Path]:
    return sorted((ROOT / "experiments").glob("*/README.md"))


def _packages() -> list[str]:
    """Packages of the library, and single modules that are public."""
    found = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    single = [path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    return sorted([*found, *single])


def _uri(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
