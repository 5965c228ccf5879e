import jax
import numpy as np
import pytest

from sparsetrain.data import buckets, conllu, tagging
from sparsetrain.data.conllu import Sentence, Treebank


def sentence(words, tags):
    heads = (0, *range(1, len(words)))
    return Sentence(tuple(words), tuple(tags), heads, ("dep",) * len(words))


TRAIN = (sentence("aab", "XXY"), sentence("ba", "YX"), sentence("c", "Y"))


def test_rare_words_are_unknown_and_tags_are_closed():
    found = tagging.prepare(Treebank(TRAIN, (sentence("ac", "XY"),), (sentence("z", "Y"),)))
    assert found.words.symbols == ("<pad>", "<unk>", "a", "b")
    assert found.tags.symbols == ("X", "Y")
    assert [words.tolist() for words in found.train.words] == [[2, 2, 3], [3, 2], [1]]
    assert found.validation.tags[0].tolist() == [0, 1] and found.test.words[0].tolist() == [1]
    with pytest.raises(ValueError, match="'Z' is none of the 2 symbols"):
        tagging.prepare(Treebank(TRAIN, TRAIN, (sentence("a", "Z"),)))


def test_batches_keep_words_and_tags_together():
    part = tagging.prepare(Treebank(TRAIN, TRAIN, TRAIN)).train
    found = list(tagging.batches(part, 2, (2, 3), jax.random.key(0)))
    assert sorted(words.shape for words, _ in found) == [(2, 2), (2, 3)]
    for words, tags in found:
        assert words.dtype == tags.dtype == np.int32
        np.testing.assert_array_equal(words == 0, tags == tagging.NO_TAG)
        assert np.all(tags[words == 2] == 0) and np.all(tags[words == 3] == 1)


@pytest.mark.needs_data("ud-english-ewt")
def test_the_real_sentences(data_dir):
    task = tagging.prepare(conllu.load(data_dir(conllu.NAME)))
    assert len(task.words) == 9_875 and len(task.tags) == 17
    lengths = [len(words) for words in task.train.words]
    bounds = buckets.bounds(lengths, 8)
    found = list(tagging.batches(task.train, 128, bounds, jax.random.key(0)))
    assert sum(np.count_nonzero(tags >= 0) for _, tags in found) == 204_577
    # Buckets leave less than a third of the entries to padding.
    assert sum(words.size for words, _ in found) < 1.5 * 204_577
