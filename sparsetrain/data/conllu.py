"""Treebanks in the CoNLL-U format: words, tags, and the head of every word."""

import os
from pathlib import Path
from typing import NamedTuple

from sparsetrain.data.files import DamagedError, find, folder_of, lines

NAME = "ud-english-ewt"
PARTS = {
    "train": "en_ewt-ud-train.conllu",
    "validation": "en_ewt-ud-dev.conllu",
    "test": "en_ewt-ud-test.conllu",
}
FIELDS = 10


class Sentence(NamedTuple):
    """Syntactic words of a sentence and its dependency tree; word i of n is entry i - 1.

    Attributes:
      words: n forms.
      tags: n universal part-of-speech tags.
      heads: n numbers in 0..n, 0 for the root's head; exactly one is 0, and no word is its own
        ancestor.
      relations: n names of the arc to the head.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]


class Treebank(NamedTuple):
    """Training, validation and test sentences.

    Attributes:
      train: of UD English EWT 12,544 sentences, 204,577 words.
      validation: 2,001 sentences, 25,147 words.
      test: 2,077 sentences, 25,094 words.
    """

    train: tuple[Sentence, ...]
    validation: tuple[Sentence, ...]
    test: tuple[Sentence, ...]


def load(path: str | os.PathLike[str] | None = None) -> Treebank:
    """Loads UD English EWT, `en_ewt-ud-{train,dev,test}.conllu`; never downloads anything.

    Args:
      path: folder of the three files, each gzipped or not. None looks into
        `$SPARSETRAIN_DATA/ud-english-ewt`.

    Returns:
      `Treebank`.

    Raises:
      FileNotFoundError: a file is not there.
      DamagedError: a row is broken, see `read`.

    Reference: Silveira et al., A Gold Standard Dependency Corpus for English (LREC 2014).

    Example:
      >>> load("nowhere")
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere is not a folder: give the one with the files of 'ud-english-ewt'
    """
    folder = folder_of(NAME, path)
    return Treebank(**{part: read(find(folder, name)) for part, name in PARTS.items()})


def read(path: str | os.PathLike[str]) -> tuple[Sentence, ...]:
    r"""Reads a CoNLL-U file, gzipped or not.

    Of its ten fields it takes FORM, UPOS, HEAD and DEPREL. Comments, multiword tokens ("3-4", whose
    words follow) and empty nodes ("3.1", of the enhanced graph only) are skipped.

    Args:
      path: the file.

    Returns:
      Its sentences.

    Raises:
      DamagedError: a row has not ten fields, numbers out of order or a head that is not there; a
        sentence is no tree; or the file does not end with the empty line that ends a sentence. The
        message names file and line.
      OSError: the file cannot be opened.

    Reference: https://universaldependencies.org/format.html

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "a.conllu"
      >>> rows = ["1 It _ PRON _ _ 2 nsubj _ _", "2 works _ VERB _ _ 0 root _ _"]
      >>> _ = path.write_text("# a comment\n" + "\n".join(rows).replace(" ", "\t") + "\n\n")
      >>> read(path)[0].words, read(path)[0].heads
      (('It', 'works'), (2, 0))
    """
    path = Path(path)
    sentences: list[Sentence] = []
    rows: list[tuple[str, str, int, str]] = []
    start = number = 0
    for number, line in enumerate(lines(path), start=1):
        line = line.removesuffix("\r")
        if not line:
            if rows:
                sentences.append(_sentence(rows, f"{path}:{start}"))
                rows = []
        elif not line.startswith("#"):
            if not rows:
                start = number
            row = _row(line, f"{path}:{number}", expected=len(rows) + 1)
            if row is not None:
                rows.append(row)
    if rows:
        raise DamagedError(
            f"{path}:{number} is not followed by the empty line that ends a sentence: the file was "
            "cut, fetch it anew"
        )
    if not sentences:
        raise DamagedError(f"{path} holds no sentence: give a CoNLL-U file")
    return tuple(sentences)


def _row(line: str, place: str, expected: int) -> tuple[str, str, int, str] | None:
    """Form, tag, head and relation, or None for a row that is no word of the tree."""
    fields = line.split("\t")
    if len(fields) != FIELDS:
        raise DamagedError(
            f"{place} has {len(fields)} fields where a CoNLL-U row has {FIELDS}, parted by tabs: "
            "mend the row or fetch the file anew"
        )
    number, form, _, tag, _, _, head, relation, _, _ = fields
    first, mark, second = number.replace(".", "-").partition("-")
    if mark and first.isdecimal() and second.isdecimal():
        return None
    if number != str(expected):
        raise DamagedError(
            f"{place} has the number {number!r} where {expected} is due: mend the row"
        )
    if not head.isdecimal():
        raise DamagedError(f"{place} has the head {head!r}, which is no number: mend the row")
    if not form or tag in ("", "_") or relation in ("", "_"):
        raise DamagedError(f"{place} lacks its form, tag or relation: take an annotated treebank")
    return form, tag, int(head), relation


def _sentence(rows: list[tuple[str, str, int, str]], place: str) -> Sentence:
    words, tags, heads, relations = zip(*rows, strict=True)
    outside = [head for head in heads if head > len(heads)]
    if outside:
        raise DamagedError(
            f"{place}: a sentence of {len(heads)} words has the head {outside[0]}: mend its rows"
        )
    if heads.count(0) != 1:
        raise DamagedError(
            f"{place}: a sentence has {heads.count(0)} roots, not one: mend its rows"
        )
    # The way to the root has at most n arcs, or it goes round in a circle.
    reached = [0] * len(heads)
    for word in range(1, len(heads) + 1):
        at = word
        while at and not reached[at - 1]:
            reached[at - 1] = word
            at = heads[at - 1]
        if at and reached[at - 1] == word:
            raise DamagedError(f"{place}: word {at} is its own ancestor: mend the heads")
    return Sentence(words, tags, heads, relations)
