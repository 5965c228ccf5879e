import json

import pytest

from sparsetrain.training import inventory


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "array").write_bytes(bytes(2_000))
    (tmp_path / "metadata").write_text("{}")
    inventory.write(tmp_path)
    return tmp_path


def test_what_was_written_is_whole(folder):
    assert inventory.complaint(folder) is None
    inventory.write(folder)  # Does not list itself.
    assert list(json.loads((folder / inventory.NAME).read_text())) == ["deep/er/array", "metadata"]


def test_each_damage_is_named(folder):
    array = folder / "deep" / "er" / "array"
    array.write_bytes(bytes(1_024))
    assert inventory.complaint(folder) == "deep/er/array has 1,024 of 2,000 bytes"
    array.write_bytes(bytes(1_999) + b"x")
    assert inventory.complaint(folder) == "deep/er/array has other bytes than were written"
    array.unlink()
    assert inventory.complaint(folder) == "deep/er/array is missing"
    array.mkdir()
    assert inventory.complaint(folder) == "deep/er/array is missing"


def test_a_file_more_does_no_harm(folder):
    (folder / "note").write_text("from a person")
    assert inventory.complaint(folder) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"metadata": 3}', "\udcff"])
def test_a_damaged_inventory_is_a_complaint(folder, text):
    (folder / inventory.NAME).write_bytes(text.encode(errors="surrogateescape"))
    assert inventory.complaint(folder).startswith("inventory.json cannot be read (")


def test_without_inventory_something_has_to_be_there(tmp_path):
    assert inventory.complaint(tmp_path) == "it is empty"
    (tmp_path / "default").mkdir()
    assert inventory.complaint(tmp_path) is None
