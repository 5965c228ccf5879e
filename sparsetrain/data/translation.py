"""Translation by words: sentence pairs as numbers, in batches of about the same length."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from sparsetrain.data import buckets, vocabulary
from sparsetrain.data.multi30k import Corpus, Pairs
from sparsetrain.data.vocabulary import BEGIN, END, PAD, UNKNOWN, Vocabulary

# A word with what hangs on it by an apostrophe or a hyphen, or one sign.
TOKEN = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")


class Numbered(NamedTuple):
    """Sentence pairs in numbers.

    Attributes:
      source: N sentences, int32[S] each, words only.
      target: N sentences, int32[T + 2] each: `BEGIN`, the words, `END`. A decoder's inputs are
        `[:-1]`, what it is to say `[1:]`.
    """

    source: tuple[np.ndarray, ...]
    target: tuple[np.ndarray, ...]


class Translation(NamedTuple):
    """The task: what the numbers mean, and three parts.

    Attributes:
      source: vocabulary of English; padding is 0, unknown 1, begin 2, end 3 in both.
      target: vocabulary of German.
      train, validation, test: the pairs.
      references: test sentences of the target in tokens, to score what `Vocabulary.decode` gives.
    """

    source: Vocabulary
    target: Vocabulary
    train: Numbered
    validation: Numbered
    test: Numbered
    references: tuple[tuple[str, ...], ...]


def tokens(sentence: str) -> tuple[str, ...]:
    """Words and signs of a sentence in lower case.

    Args:
      sentence: as it was written.

    Returns:
      Its tokens.

    Example:
      >>> tokens("A man's T-Shirt, (red).")
      ('a', "man's", 't-shirt', ',', '(', 'red', ')', '.')
    """
    return tuple(TOKEN.findall(sentence.lower()))


def prepare(corpus: Corpus, least: int = 2, size: int | None = None) -> Translation:
    """Learns a vocabulary a language on the training pairs, and makes numbers of all.

    Args:
      corpus: English and German sentences.
      least: words that are rarer in training are unknown.
      size: symbols of each language at most.

    Returns:
      `Translation`, English to German.

    Raises:
      ValueError: `least` or `size` leaves no word.

    Example:
      >>> part = Pairs(("A dog.",), ("Ein Hund.",))
      >>> task = prepare(Corpus(part, part, part), least=1)
      >>> task.train.target[0].tolist(), task.target.decode(task.train.target[0])
      ([2, 5, 6, 4, 3], ('ein', 'hund', '.'))
    """
    english, german = (
        vocabulary.learn(map(tokens, sentences), least, size, (PAD, UNKNOWN, BEGIN, END))
        for sentences in corpus.train
    )

    def numbers(pairs: Pairs) -> Numbered:
        return Numbered(
            tuple(english.encode(tokens(sentence)) for sentence in pairs.english),
            tuple(german.encode((BEGIN, *tokens(sentence), END)) for sentence in pairs.german),
        )

    references = tuple(map(tokens, corpus.test.german))
    train, validation, test = map(numbers, corpus)
    return Translation(english, german, train, validation, test, references)


def batches(
    part: Numbered,
    batch_size: int,
    bounds: Sequence[int],
    key: jax.Array | None = None,
    epoch: int = 0,
    whole: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of an epoch; the longer sentence of a pair decides on its bucket.

    Args:
      part: sentence pairs.
      batch_size: B.
      bounds: lengths of rows, see `lengths` and `buckets.bounds`.
      key: of the data; None keeps the order, for evaluation.
      epoch: each one has an order of its own.
      whole: leave partial batches out; otherwise they are filled up with rows of padding.

    Yields:
      Source int32[B, L] and target int32[B, L], filled up with 0.

    Raises:
      ValueError: a sentence is longer than the last bound.

    Example:
      >>> part = Numbered((np.array([4]),), (np.array([2, 5, 3]),))
      >>> for source, target in batches(part, batch_size=1, bounds=[3]):
      ...     print(source.tolist(), target.tolist())
      [[4, 0, 0]] [[2, 5, 3]]
    """
    for bucket in buckets.batches(lengths(part), batch_size, bounds, key, epoch, whole):
        yield bucket.take(part.source), bucket.take(part.target)


def lengths(part: Numbered) -> np.ndarray:
    """Lengths of the longer sentences of the pairs, with the symbols around the target.

    Args:
      part: N pairs.

    Returns:
      int32[N].

    Example:
      >>> lengths(Numbered((np.array([4]),), (np.array([2, 5, 3]),)))
      array([3], dtype=int32)
    """
    pairs = zip(part.source, part.target, strict=True)
    return np.array([max(len(source), len(target)) for source, target in pairs], np.int32)
