import gzip

import pytest

from sparsetrain.data import files


def test_a_path_goes_before_the_variable(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    assert files.folder_of("set") == tmp_path / "set"
    assert files.folder_of("set", tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError, match="other is not a folder"):
        files.folder_of("other")
    monkeypatch.delenv("SPARSETRAIN_DATA")
    with pytest.raises(FileNotFoundError, match=r"set \$SPARSETRAIN_DATA"):
        files.folder_of("set")


@pytest.mark.parametrize("there", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("asked", ["a.txt", "a.txt.gz"])
def test_packed_or_not(tmp_path, there, asked):
    packed = there.endswith(".gz")
    (tmp_path / there).write_bytes(gzip.compress(b"x\x85\ny\n") if packed else b"x\x85\ny\n")
    assert files.lines(files.find(tmp_path, asked), "latin-1") == ["x\x85", "y"]


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.txt"
    cases = {
        "truncated or damaged gzip": gzip.compress(b"text\n" * 100)[:-12],
        "is empty": b"",
        "ends inside its last line": b"one\ntw",
        "not utf-8 text at byte 1": b"a\xe9b\n",
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(files.DamagedError, match=rf"a\.txt.*{message}.*fetch it anew"):
            files.lines(path)
    path.write_bytes(b"one\ntwo")
    assert files.lines(path, closed=False) == ["one", "two"]
