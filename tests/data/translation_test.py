import jax
import pytest

from sparsetrain.data import buckets, multi30k, translation
from sparsetrain.data.multi30k import Corpus, Pairs

TRAIN = Pairs(
    ("A dog runs.", "Two dogs, a man!", "A man"), ("Ein Hund läuft.", "Zwei Hunde", "Ein Mann")
)
TEST = Pairs(("A cat",), ("Eine Katze",))


def test_there_and_back():
    task = translation.prepare(Corpus(TRAIN, TEST, TEST), least=1)
    for numbers, sentence in zip(task.train.target, TRAIN.german, strict=True):
        assert (numbers[0], numbers[-1]) == (2, 3)
        assert task.target.decode(numbers) == translation.tokens(sentence)
    assert task.test.source[0].tolist() == [task.source.numbers["a"], 1]
    assert task.test.target[0].tolist() == [2, 1, 1, 3]
    assert task.references == (("eine", "katze"),)
    assert translation.prepare(Corpus(TRAIN, TEST, TEST)).source.symbols[4:] == ("a", "man")


def test_pairs_stay_together():
    part = translation.prepare(Corpus(TRAIN, TEST, TEST), least=1).train
    longest = translation.lengths(part)
    assert longest.tolist() == [6, 6, 4]
    found = list(translation.batches(part, 2, (4, 6), jax.random.key(1)))
    assert sorted(source.shape for source, _ in found) == [(2, 4), (2, 6)]
    seen = {
        (tuple(source[source > 0]), tuple(target[target > 0]))
        for pair in found
        for source, target in zip(*pair, strict=True)
    }
    right = {(tuple(s), tuple(t)) for s, t in zip(*part, strict=True)}
    assert seen == right | {((), ())}
    assert len(list(translation.batches(part, 2, (4, 6), whole=True))) == 1


@pytest.mark.needs_data(multi30k.NAME)
def test_the_real_pairs(data_dir):
    task = translation.prepare(multi30k.load(data_dir(multi30k.NAME)))
    assert (len(task.source), len(task.target)) == (5_977, 7_857)
    lengths = translation.lengths(task.train)
    bounds = buckets.bounds(lengths, 4)
    sizes = [source.size for source, _ in translation.batches(task.train, 64, bounds)]
    assert sum(sizes) < 1.2 * lengths.sum()
