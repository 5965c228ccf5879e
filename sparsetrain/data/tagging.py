"""Part-of-speech tagging: the sentences of a treebank as batches of words and tags."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from sparsetrain.data import buckets, vocabulary
from sparsetrain.data.conllu import Sentence, Treebank
from sparsetrain.data.vocabulary import Vocabulary

NO_TAG = -1


class Tagged(NamedTuple):
    """Sentences in numbers.

    Attributes:
      words: N sentences, int32[T] each.
      tags: the same shapes.
    """

    words: tuple[np.ndarray, ...]
    tags: tuple[np.ndarray, ...]


class Tagging(NamedTuple):
    """The task: what the numbers mean, and three parts.

    Attributes:
      words: vocabulary of the words, with padding (0) and an unknown word (1).
      tags: vocabulary of the tags, with neither.
      train, validation, test: the sentences.
    """

    words: Vocabulary
    tags: Vocabulary
    train: Tagged
    validation: Tagged
    test: Tagged


def prepare(treebank: Treebank, least: int = 2) -> Tagging:
    """Learns the vocabularies on the training sentences, and makes numbers of all.

    Args:
      treebank: sentences.
      least: words that are rarer in training are unknown.

    Returns:
      `Tagging`.

    Raises:
      ValueError: a part has a tag that training has not, or no word is frequent enough.

    Example:
      >>> part = (Sentence(("We", "see"), ("PRON", "VERB"), (2, 0), ("nsubj", "root")),)
      >>> found = prepare(Treebank(part, part, part), least=1)
      >>> found.words.symbols, found.tags.symbols
      (('<pad>', '<unk>', 'We', 'see'), ('PRON', 'VERB'))
    """
    words = vocabulary.learn((sentence.words for sentence in treebank.train), least)
    tags = vocabulary.learn((sentence.tags for sentence in treebank.train), special=())

    def numbers(sentences: Sequence[Sentence]) -> Tagged:
        return Tagged(
            tuple(words.encode(sentence.words) for sentence in sentences),
            tuple(tags.encode(sentence.tags) for sentence in sentences),
        )

    return Tagging(words, tags, *map(numbers, treebank))


def batches(
    part: Tagged,
    batch_size: int,
    bounds: Sequence[int],
    key: jax.Array | None = None,
    epoch: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All sentences of an epoch, padded to the lengths of their buckets.

    Args:
      part: sentences.
      batch_size: B.
      bounds: lengths of rows, see `buckets.bounds`.
      key: of the data; None keeps the order, for evaluation.
      epoch: each one has an order of its own.

    Yields:
      Words int32[B, L], filled up with 0, and tags int32[B, L], filled up with `NO_TAG`. A last
      batch that is partial has rows of padding only.

    Raises:
      ValueError: a sentence is longer than the last bound.

    Example:
      >>> part = Tagged((np.array([2, 3]),), (np.array([0, 1]),))
      >>> for words, tags in batches(part, batch_size=1, bounds=[3]):
      ...     print(words.tolist(), tags.tolist())
      [[2, 3, 0]] [[0, 1, -1]]
    """
    lengths = [len(words) for words in part.words]
    for bucket in buckets.batches(lengths, batch_size, bounds, key, epoch):
        yield bucket.take(part.words), bucket.take(part.tags, NO_TAG)
