import numpy as np
import pytest

from sparsetrain.data import sentences
from sparsetrain.data.files import DamagedError


def files(folder, negative=b"bad film . \nso so\x85\xa0 .\n", positive=b"good .\n"):
    folder.mkdir(exist_ok=True)
    for name, content in zip(
        sentences.FILES["sentence-polarity"], (negative, positive), strict=True
    ):
        (folder / name).write_bytes(content)
    return folder


def test_words_are_what_spaces_part(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    files(tmp_path / "sentence-polarity")
    found = sentences.load("sentence-polarity")
    assert found.words == (("bad", "film", "."), ("so", "so\x85\xa0", "."), ("good", "."))
    assert found.labels.tolist() == [0, 0, 1] and found.labels.dtype == np.int32


def test_bad_files_and_names(tmp_path):
    with pytest.raises(ValueError, match="choose one of"):
        sentences.load("sst", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no subj\.objective"):
        sentences.load("subjectivity", tmp_path)
    with pytest.raises(DamagedError, match=r"rt-polarity\.pos ends inside its last line"):
        sentences.load("sentence-polarity", files(tmp_path, positive=b"good .\nbet"))
    with pytest.raises(ValueError, match=r"rt-polarity\.neg:2 holds no word"):
        sentences.load("sentence-polarity", files(tmp_path, negative=b"bad\n \n"))


def test_folds_part_all_examples():
    found = sentences.folds(103, 10, seed=1)
    assert sorted(map(len, found)) == [10] * 7 + [11] * 3
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(103))
    np.testing.assert_array_equal(found[3], sentences.folds(103, 10, seed=1)[3])
    assert (found[3][:10] != sentences.folds(103, 10, seed=2)[3][:10]).any()
    for count in (1, 4):
        with pytest.raises(ValueError, match=r"must lie in 2\.\.3"):
            sentences.folds(3, count, seed=0)


def test_a_fold_learns_its_words_in_training_only():
    # Every sentence has a word of its own.
    words = tuple((f"w{i}", "all") for i in range(50))
    found = sentences.prepare(
        sentences.Sentences(words, np.arange(50, dtype=np.int32) % 2), fold=4, seed=3
    )
    sizes = [len(part.labels) for part in (found.train, found.validation, found.test)]
    assert sizes == [41, 4, 5] and len(found.vocabulary) == 2 + 1 + 41
    for part, known in ((found.train, True), (found.validation, False), (found.test, False)):
        assert part.words.shape == (len(part.labels), 5) and np.all(part.words[:, 2:] == 0)
        assert np.all((part.words[:, 0] > 1) == known)
    seen = [found.vocabulary.symbols[row[0]] for row in found.train.words]
    np.testing.assert_array_equal([int(word[1:]) % 2 for word in seen], found.train.labels)
    with pytest.raises(ValueError, match=r"fold=10: must lie in 0\.\.9"):
        sentences.prepare(sentences.Sentences(words, np.zeros(50, np.int32)), fold=10)


@pytest.mark.parametrize(
    ("name", "each", "longest", "types"),
    [
        pytest.param(*row, marks=pytest.mark.needs_data(row[0]))
        for row in [("sentence-polarity", 5_331, 59, 21_420), ("subjectivity", 5_000, 120, 23_926)]
    ],
)
def test_the_real_files(data_dir, name, each, longest, types):
    found = sentences.load(name, data_dir(name))
    assert np.bincount(found.labels).tolist() == [each, each]
    assert max(map(len, found.words)) == longest
    assert len({word for sentence in found.words for word in sentence}) == types
    fold = sentences.prepare(found, fold=0)
    assert fold.test.words.shape == (-(-2 * each // 10), longest)
