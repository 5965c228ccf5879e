import numpy as np
import pytest

from sparsetrain.data import text


def test_symbols_are_sorted_and_the_parts_are_the_text():
    words = "to be, or not to be: that is the question. é" * 3
    found = text.encode(words)
    assert list(found.symbols) == sorted(set(words))
    parts = np.concatenate([found.train, found.validation, found.test])
    assert "".join(found.symbols[number] for number in parts) == words
    assert [len(part) for part in found[1:]] == [118, 7, 7]
    assert parts.dtype == np.int32


def test_windows_of_a_row_continue_each_other():
    found = text.streams(np.arange(100), rows=3, length=7)
    assert found.shape == (4, 3, 8)
    np.testing.assert_array_equal(found[:-1, :, -1], found[1:, :, 0])
    np.testing.assert_array_equal(found[0, :, 0], [0, 33, 66])
    np.testing.assert_array_equal(np.diff(found, axis=-1), 1)


def test_bad_input_names_the_cure(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="too short"):
        text.encode("short")
    with pytest.raises(ValueError, match="fewer rows"):
        text.streams(np.arange(10), rows=5, length=2)
    with pytest.raises(ValueError, match="tinyshakespeare"):
        text.load_text("shakespeare")
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"input\.txt is absent|tinyshakespeare is absent"):
        text.load_text("tinyshakespeare")


@pytest.mark.parametrize("by", ["file", "folder", "variable"])
def test_a_text_is_found(by, tmp_path, monkeypatch):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    (folder / "input.txt").write_text("ab" * 20)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    path = {"file": folder / "input.txt", "folder": folder, "variable": None}[by]
    assert text.load_text("tinyshakespeare", path).symbols == "ab"


@pytest.mark.needs_data("tinyshakespeare")
def test_the_real_text(data_dir):
    found = text.load_text("tinyshakespeare", data_dir("tinyshakespeare"))
    assert len(found.symbols) == 65
    assert sum(map(len, found[1:])) == 1_115_394
    assert "".join(found.symbols[n] for n in found.train[:13]) == "First Citizen"
