import numpy as np
import pytest

from sparsetrain.data import conllu, parsing
from sparsetrain.data.attachment import attachment
from sparsetrain.data.conllu import Sentence, Treebank


def sentence(words, heads, relations=None):
    tags = ("PUNCT" if word == "." else word.upper() for word in words)
    relations = relations or ["root" if head == 0 else "dep" for head in heads]
    return Sentence(tuple(words), tuple(tags), tuple(heads), tuple(relations))


TRAIN = (
    sentence("abc.", (2, 0, 2, 2), ("nsubj:pass", "root", "obj", "punct")),
    sentence("abca", (3, 4, 0, 3)),
    sentence("ab", (0, 1)),
)


def task_of(*test):
    return parsing.prepare(Treebank(TRAIN, TRAIN, test or TRAIN), least=1)


def by_heart(task, part):
    """A scoring function that has learnt the examples by heart; each has other features."""
    seen = parsing.examples(task, part)
    known = {row.tobytes(): action for row, action in zip(seen.features, seen.actions, strict=True)}
    assert len(known) == len(seen.actions)

    def score(features):
        assert features.shape == (2, 48)
        actions = [known.get(row.tobytes(), 0) for row in features]
        return np.eye(task.actions)[actions]

    return score


def test_trees_that_cross_are_counted_and_left_out():
    task = task_of()
    assert task.train.projective.tolist() == [True, False, True]
    seen = parsing.examples(task, task.train, together=1)
    assert seen.features.shape == (2 * (4 + 2), 48) and seen.legal.shape == (12, 3)
    kinds = np.minimum((seen.actions + len(task.relations) - 1) // len(task.relations), 2)
    assert seen.legal[np.arange(12), kinds].all()
    with pytest.raises(ValueError, match="none of 1 trees is projective"):
        parsing.examples(*(lambda task: (task, task.test))(task_of(TRAIN[1])))


def test_subtypes_are_left_out_unless_asked_for():
    assert task_of().relations.symbols == ("dep", "root", "nsubj", "obj", "punct")
    found = parsing.prepare(Treebank(TRAIN, TRAIN, TRAIN), subtypes=True).relations
    assert "nsubj:pass" in found.symbols and "nsubj" not in found.symbols


def test_a_parser_that_knows_all_states_is_right():
    task = task_of(*TRAIN[::2])
    heads, relations = parsing.parse(by_heart(task, task.test), task, task.test, together=2)
    for found, right in zip(heads, task.test.heads, strict=True):
        np.testing.assert_array_equal(found, right)
    assert attachment(task, task.test, heads, relations) == (1.0, 1.0, 5)
    assert attachment(task, task.test, heads, relations, punctuation=True).words == 6


def test_relations_that_training_has_not():
    task = task_of(sentence("ab", (0, 1), ("root", "vocative")))
    assert task.test.relations[0].tolist() == [task.relations.numbers["root"], -1]
    with pytest.raises(ValueError, match="sentence 0 has a relation that training has not"):
        parsing.examples(task, task.test)


@pytest.mark.needs_data("ud-english-ewt")
def test_the_real_treebank(data_dir):
    task = parsing.prepare(conllu.load(data_dir(conllu.NAME)))
    parts = (task.train, task.validation, task.test)
    assert [int(part.projective.sum()) for part in parts] == [12_256, 1_970, 2_051]
    assert len(task.relations) == 36 and task.actions == 73
    seen = parsing.examples(task, task.train)
    assert seen.features.shape == (392_214, 48)
    assert np.count_nonzero(seen.actions == 0) == 196_107
    # A scoring function at random: every sentence gets a tree.
    weights = np.random.default_rng(0).normal(size=(48, task.actions))
    heads, relations = parsing.parse(lambda features: features @ weights, task, task.test)
    assert all(np.count_nonzero(found == 0) == 1 for found in heads)
    scores = attachment(task, task.test, heads, relations)
    assert 0.05 < scores.unlabelled < 0.5 and scores.words == 21_998
