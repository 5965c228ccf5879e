import gzip

import pytest

from sparsetrain.data import multi30k
from sparsetrain.data.files import DamagedError


def files(folder, german=3):
    for stem in multi30k.PARTS.values():
        for language, count in (("en", 3), ("de", german)):
            text = "".join(f"{stem} {language}\x85 {i} \n" for i in range(count))
            (folder / f"{stem}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_sentences_keep_their_order_and_their_characters(tmp_path):
    found = multi30k.load(files(tmp_path))
    assert found.train.english == tuple(f"train en\x85 {i}" for i in range(3))
    assert found.test.german[2] == "test_2016_flickr de\x85 2"
    path = tmp_path / "val.en.gz"
    (tmp_path / "val.en").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    assert multi30k.load(tmp_path) == found


def test_files_that_are_missing_or_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.en\.gz"):
        multi30k.load(tmp_path)
    with pytest.raises(ValueError, match="3 English and 2 German"):
        multi30k.load(files(tmp_path, german=2))
    path = files(tmp_path) / "train.de.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DamagedError, match=r"train\.de\.gz is a truncated"):
        multi30k.load(tmp_path)


def test_the_real_files(data_dir):
    found = multi30k.load(data_dir(multi30k.NAME))
    assert [len(part.english) for part in found] == [29_000, 1_014, 1_000]
    assert found.train.german[2] == "Ein kleines Mädchen klettert in ein Spielhaus aus Holz."
    assert all(all(part.english) and all(part.german) for part in found)
