"""The README's table of compressors lists what there is."""

import re
from pathlib import Path

from sparsetrain import compress

README = Path(__file__).parent.parent.parent / "README.md"


def table() -> str:
    rows = README.read_text().split("<!-- compressors -->")[1].split("\n\n")[0]
    assert "all-reducible" in rows
    return rows


def test_every_compressor_has_its_row():
    missing = [name for name in compress.COMPRESSORS if name not in table()]
    assert not missing


def test_every_name_in_the_table_exists():
    names = re.findall(r"`(?:compress\.)?(\w+)(?:\(|`)", table())
    assert names and not [name for name in names if not hasattr(compress, name)]
