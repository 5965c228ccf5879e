"""How parses are scored: words with the right head."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsetrain.data.parsing import Parsing, Trees

PUNCTUATION = "PUNCT"


class Attachment(NamedTuple):
    """Shares of words with the right head.

    Attributes:
      unlabelled: UAS, in 0..1.
      labelled: LAS, with the right relation too.
      words: how many were counted.
    """

    unlabelled: float
    labelled: float
    words: int


def attachment(
    task: Parsing,
    trees: Trees,
    heads: Sequence[np.ndarray],
    relations: Sequence[np.ndarray],
    punctuation: bool = False,
) -> Attachment:
    """Scores parses against the right trees.

    Words tagged PUNCT are left out, as is usual for the Penn Treebank and in the papers; the shared
    tasks on Universal Dependencies count them. Trees that are not projective count.

    Args:
      task: the vocabularies.
      trees: right heads and relations.
      heads: int32[n] of each sentence.
      relations: the same, of the relations.
      punctuation: whether punctuation counts too.

    Returns:
      `Attachment`.

    Example:
      >>> from sparsetrain.data.conllu import Sentence, Treebank
      >>> from sparsetrain.data.parsing import prepare
      >>> part = (Sentence(("We", "see"), ("PRON", "VERB"), (2, 0), ("nsubj", "root")),)
      >>> task = prepare(Treebank(part, part, part), least=1)
      >>> attachment(task, task.test, [np.array([0, 0])], task.test.relations)
      Attachment(unlabelled=0.5, labelled=0.5, words=2)
    """
    tags, right, names = (
        np.concatenate(part) for part in (trees.tags, trees.heads, trees.relations)
    )
    counted = np.ones(len(tags), bool)
    if not punctuation:
        counted = tags != task.tags.numbers.get(PUNCTUATION, -1)
    same = (np.concatenate(heads) == right) & counted
    named = same & (np.concatenate(relations) == names)
    words = int(counted.sum())
    return Attachment(float(same.sum() / words), float(named.sum() / words), words)
