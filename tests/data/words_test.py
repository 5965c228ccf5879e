import numpy as np
import pytest

from sparsetrain.data import text, words


def files(folder, train="a b a\n\nc a b"):
    folder.mkdir(exist_ok=True)
    contents = (train, "c z\n", "b")
    for name, content in zip(words.FILES["war-and-peace"].values(), contents, strict=True):
        (folder / name).write_text(content)
    return folder


def test_lines_end_and_rare_words_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    files(tmp_path / "war-and-peace")
    found = words.load_words("war-and-peace", size=4)
    assert found.vocabulary.symbols == ("<unk>", "<eos>", "a", "b")
    assert found.train.tolist() == [2, 3, 2, 1, 0, 2, 3, 1] and found.train.dtype == np.int32
    assert found.validation.tolist() == [0, 0, 1] and found.test.tolist() == [3, 1]
    assert len(words.load_words("war-and-peace", size=None).vocabulary) == 5


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match="choose one of"):
        words.load_words("anna-karenina", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no wap\.train\.txt"):
        words.load_words("war-and-peace", tmp_path)
    with pytest.raises(ValueError, match=r"wap\.train\.txt is empty"):
        words.load_words("war-and-peace", files(tmp_path, train=""))
    with pytest.raises(ValueError, match="holds no word"):
        words.load_words("war-and-peace", files(tmp_path, train="\n \n"))
    with pytest.raises(ValueError, match="size=2 leave none"):
        words.load_words("war-and-peace", files(tmp_path), size=2)


@pytest.mark.needs_data("war-and-peace")
def test_the_real_text(data_dir):
    folder = data_dir("war-and-peace")
    found = words.load_words("war-and-peace", folder)
    # Words and the ends of the lines, of which the first is empty in each file.
    sizes = [394_538 + 36_242, 84_831 + 7_869, 86_939 + 8_051]
    assert [len(part) for part in found[1:]] == sizes
    assert len(found.vocabulary) == 10_000
    assert 0.05 < np.mean(found.train[found.train != 1] == 0) < 0.08
    assert len(words.load_words("war-and-peace", folder, size=None).vocabulary) == 34_623 + 2
    windows = text.streams(found.train, rows=20, length=35)
    assert windows.shape == (615, 20, 36)
    np.testing.assert_array_equal(windows[1:, :, 0], windows[:-1, :, -1])
