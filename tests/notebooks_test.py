"""What a notebook must be to lie in the repository; that it runs is tested by nbmake (see pyproject)."""

import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert "01_sparse_backward.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_opens_in_colab(path):
    """A badge that points to this very file, and a first code cell that installs the package there."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    start = "".join(cells[0]["source"])
    assert (
        f"colab.research.google.com/github/sparsetrain/sparsetrain/blob/main/notebooks/{path.name}"
        in start
    )
    install = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    assert '"google.colab" in sys.modules' in install and "%pip install" in install
