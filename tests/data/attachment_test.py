import numpy as np

from sparsetrain.data import parsing
from sparsetrain.data.attachment import attachment
from sparsetrain.data.conllu import Sentence, Treebank

PARTS = (
    Sentence(tuple("abc."), ("A", "B", "C", "PUNCT"), (2, 0, 2, 2), ("dep", "root", "dep", "dep")),
    Sentence(("a", "b"), ("A", "B"), (0, 1), ("root", "dep")),
)


def test_scores_by_hand():
    task = parsing.prepare(Treebank(PARTS, PARTS, PARTS), least=1)
    dep = task.relations.numbers["dep"]
    heads = [np.array([3, 0, 2, 1]), np.array([0, 1])]
    relations = [task.test.relations[0], np.array([dep, dep])]
    # Of a b c . the first head is wrong, and "." counts only if asked for.
    assert attachment(task, task.test, heads, relations) == (4 / 5, 3 / 5, 5)
    assert attachment(task, task.test, heads, relations, punctuation=True) == (4 / 6, 3 / 6, 6)


def test_a_treebank_without_punctuation():
    task = parsing.prepare(Treebank(PARTS[1:], PARTS[1:], PARTS[1:]), least=1)
    assert attachment(task, task.test, task.test.heads, task.test.relations) == (1, 1, 2)
