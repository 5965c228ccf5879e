"""Text by words: three files, a vocabulary of the frequent words, numbers for `text.streams`."""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sparsetrain.data import vocabulary
from sparsetrain.data.files import find, folder_of, lines
from sparsetrain.data.vocabulary import UNKNOWN, Vocabulary

END_OF_LINE = "<eos>"
FILES = {
    "war-and-peace": {
        "train": "wap.train.txt",
        "validation": "wap.valid.txt",
        "test": "wap.test.txt",
    }
}


class Words(NamedTuple):
    """A text as numbers of words, in three parts.

    Attributes:
      vocabulary: of the training text; 0 is the unknown word, 1 the end of a line.
      train, validation, test: int32[N] each, every line followed by its end.
    """

    vocabulary: Vocabulary
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def encode(
    train: Iterable[str], validation: Iterable[str], test: Iterable[str], size: int | None = None
) -> Words:
    """Lines of words in numbers.

    Args:
      train: lines; spaces part words.
      validation: the same.
      test: the same.
      size: symbols at most, the unknown word and the end of a line included.

    Returns:
      `Words`; lines without words leave no trace.

    Raises:
      ValueError: no room for a word, or a part without words.

    Example:
      >>> found = encode(["a b a"], ["c a"], ["b"], size=4)
      >>> found.vocabulary.symbols, found.validation.tolist()
      (('<unk>', '<eos>', 'a', 'b'), [0, 2, 1])
    """
    parts = [[line.split() for line in part if line.strip()] for part in (train, validation, test)]
    if not all(parts):
        raise ValueError("a part of the text holds no word: give lines of words for all three")
    words = vocabulary.learn(parts[0], size=size, special=(UNKNOWN, END_OF_LINE))
    return Words(
        words,
        *(words.encode(word for line in part for word in (*line, END_OF_LINE)) for part in parts),
    )


def load_words(
    name: str, path: str | os.PathLike[str] | None = None, size: int | None = 10_000
) -> Words:
    """Loads a text into memory; never downloads anything.

    Windows that continue each other come from `text.streams`, as for characters.

    Args:
      name: "war-and-peace", 394,538 / 84,831 / 86,939 words as they stand in the book, case and
        punctuation included. 34,623 different ones are in the training text; with the default size
        8% of its words are unknown.
      path: folder of `wap.{train,valid,test}.txt`, each gzipped or not. None looks into
        `$SPARSETRAIN_DATA/<name>`.
      size: symbols at most; 10,000 as of the Penn Treebank. None for all words.

    Returns:
      `Words`.

    Raises:
      ValueError: an unknown name, or a file that is empty or no UTF-8.
      FileNotFoundError: a file is not there.

    Example:
      >>> from sparsetrain.data import text
      >>> corpus = load_words("war-and-peace")                       # doctest: +SKIP
      >>> text.streams(corpus.train, rows=20, length=35).shape       # doctest: +SKIP
      (615, 20, 36)
    """
    if name not in FILES:
        raise ValueError(f"name={name!r} is an unknown text; choose one of {sorted(FILES)}")
    folder = folder_of(name, path)
    # The published files end without an end of line.
    parts = {part: lines(find(folder, file), closed=False) for part, file in FILES[name].items()}
    return encode(**parts, size=size)
