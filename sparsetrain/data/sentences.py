"""Sentence classification: two files of sentences, a class each, and folds of them."""

import os
from typing import NamedTuple

import numpy as np

from sparsetrain.data import buckets, vocabulary
from sparsetrain.data.files import find, folder_of, lines
from sparsetrain.data.vocabulary import PAD, UNKNOWN, Vocabulary

# Class 0 and class 1.
FILES = {
    "sentence-polarity": ("rt-polarity.neg", "rt-polarity.pos"),
    "subjectivity": ("subj.objective", "subj.subjective"),
}


class Sentences(NamedTuple):
    """Sentences and their classes.

    Attributes:
      words: N sentences, in the order of the files, class 0 first.
      labels: int32[N], 0 or 1.
    """

    words: tuple[tuple[str, ...], ...]
    labels: np.ndarray


class Examples(NamedTuple):
    """Sentences in numbers.

    Attributes:
      words: int32[N, T], filled up with 0.
      labels: int32[N].
    """

    words: np.ndarray
    labels: np.ndarray


class Fold(NamedTuple):
    """One way to part the sentences.

    Attributes:
      vocabulary: learnt on the training sentences.
      train, validation, test: disjoint, and together all sentences.
    """

    vocabulary: Vocabulary
    train: Examples
    validation: Examples
    test: Examples


def load(name: str, path: str | os.PathLike[str] | None = None) -> Sentences:
    """Loads a data set; never downloads anything.

    The files are tokenised: a space parts words, and case is as it is there. They are read as
    latin-1.

    Args:
      name: "sentence-polarity", 5,331 negative (0) and 5,331 positive (1) sentences of reviews, or
        "subjectivity", 5,000 objective (0) and 5,000 subjective (1) ones.
      path: folder of the two files, each gzipped or not. None looks into `$SPARSETRAIN_DATA/<name>`.

    Returns:
      `Sentences`.

    Raises:
      ValueError: an unknown name, a file that is cut, or a line without words.
      FileNotFoundError: a file is not there.

    Reference: Pang and Lee, Seeing Stars (ACL 2005), and A Sentimental Education (ACL 2004).

    Example:
      >>> load("subjectivity", "nowhere")
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere is not a folder: give the one with the files of 'subjectivity'
    """
    if name not in FILES:
        raise ValueError(f"name={name!r} is an unknown data set; choose one of {sorted(FILES)}")
    folder = folder_of(name, path)
    words: list[tuple[str, ...]] = []
    labels: list[int] = []
    for label, file in enumerate(FILES[name]):
        place = find(folder, file)
        for number, line in enumerate(lines(place, "latin-1"), start=1):
            # Not `split()`: it takes some characters of latin-1 for spaces.
            sentence = tuple(word for word in line.rstrip("\r").split(" ") if word)
            if not sentence:
                raise ValueError(f"{place}:{number} holds no word: fetch the file anew")
            words.append(sentence)
            labels.append(label)
    return Sentences(tuple(words), np.array(labels, np.int32))


def folds(examples: int, count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Parts a data set at random into test sets for cross-validation.

    Args:
      examples: N.
      count: K, 2 <= K <= N; ten in the papers.
      seed: of the permutation, whose stream NumPy never changes.

    Returns:
      K arrays int32[N // K or one more], which together hold each of 0..N-1 once.

    Raises:
      ValueError: K does not lie in 2..N.

    Example:
      >>> [fold.tolist() for fold in folds(examples=5, count=2, seed=0)]
      [[2, 0, 1], [3, 4]]
    """
    if not 2 <= count <= examples:
        raise ValueError(f"count={count}: must lie in 2..{examples}, the number of examples")
    order = np.random.RandomState(seed).permutation(examples).astype(np.int32)
    return tuple(np.array_split(order, count))


def prepare(
    sentences: Sentences, fold: int, count: int = 10, seed: int = 0, least: int = 1, width: int = 5
) -> Fold:
    """One fold as matrices: its test set, a tenth of the rest to validate, and what is left.

    Rows are as long as the longest sentence of all, so that every fold has the same shapes.

    Args:
      sentences: N sentences.
      fold: which of the folds is tested, from 0.
      count: number of folds.
      seed: of the folds.
      least: words that are rarer in training are unknown (1); 0 is padding.
      width: rows are at least that long, for the widest window of a convolution.

    Returns:
      `Fold`.

    Raises:
      ValueError: no such fold.

    Example:
      >>> few = Sentences((("a",), ("b", "a")) * 10, np.array([0, 1] * 10, np.int32))
      >>> found = prepare(few, fold=0)
      >>> found.test.words.shape, len(found.validation.labels), len(found.train.labels)
      ((2, 5), 1, 17)
    """
    parts = folds(len(sentences.labels), count, seed)
    if not 0 <= fold < count:
        raise ValueError(f"fold={fold}: must lie in 0..{count - 1}, there are {count} folds")
    rest = np.concatenate([part for number, part in enumerate(parts) if number != fold])
    held = max(1, len(rest) // 10)
    train, validation = rest[:-held], rest[-held:]
    words = vocabulary.learn((sentences.words[row] for row in train), least, special=(PAD, UNKNOWN))
    length = max(width, *map(len, sentences.words))

    def matrices(rows: np.ndarray) -> Examples:
        encoded = [words.encode(sentences.words[row]) for row in rows]
        return Examples(buckets.padded(encoded, length), sentences.labels[rows])

    return Fold(words, *map(matrices, (train, validation, parts[fold])))
