"""What a wheel would hold: every module of the library, its marker of types, and nothing else of the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
setuptools = pytest.importorskip("setuptools")


def files(folder):
    """Paths below a folder, caches left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_a_wheel_holds_every_module_and_nothing_else(tmp_path):
    # The step of a build that gathers files; it needs no network and leaves nothing in the checkout.
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == {"sparsetrain"}
    held = files(tmp_path / "sparsetrain")
    assert held == files(ROOT / "sparsetrain")
    assert "py.typed" in held and len(held) > 200


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in (ROOT / "sparsetrain").rglob("*.py")}
    wanted = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    found = setuptools.find_packages(str(ROOT), include=["sparsetrain", "sparsetrain.*"])
    assert set(found) == wanted
