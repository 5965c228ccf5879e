"""Multi30k: English captions with their German translations, a sentence a line."""

from pathlib import Path
from typing import NamedTuple

from sparsetrain.data import files

NAME = "multi30k-en-de"
PARTS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


class Pairs(NamedTuple):
    """Sentences and their translations, as they were written.

    Attributes:
      english: one sentence each.
      german: the same sentences.
    """

    english: tuple[str, ...]
    german: tuple[str, ...]


class Corpus(NamedTuple):
    """Training, validation and test sentences.

    Attributes:
      train: 29,000 pairs.
      validation: 1,014 pairs.
      test: 1,000 pairs, those of 2016.
    """

    train: Pairs
    validation: Pairs
    test: Pairs


def load(folder: Path) -> Corpus:
    """Loads `{train,val,test_2016_flickr}.{en,de}.gz` of task 1; never downloads anything.

    Args:
      folder: where the six files lie; a file may lack its ".gz" if it is unpacked.

    Returns:
      `Corpus`.

    Raises:
      FileNotFoundError: a file is not there.
      DamagedError: a file is cut.
      ValueError: the two languages of a part have different numbers of sentences.

    Reference: Elliott et al., Multi30K: Multilingual English-German Image Descriptions (arXiv
      1605.00459).

    Example:
      >>> load(Path("nowhere"))
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere holds no train.en (nor train.en.gz): put the file there
    """
    return Corpus(**{name: _pairs(folder, stem) for name, stem in PARTS.items()})


def _pairs(folder: Path, stem: str) -> Pairs:
    english, german = (
        tuple(line.strip() for line in files.lines(files.find(folder, f"{stem}.{language}.gz")))
        for language in ("en", "de")
    )
    if len(english) != len(german):
        raise ValueError(
            f"{folder}: {stem} has {len(english)} English and {len(german)} German sentences; "
            "take both files from the same release"
        )
    return Pairs(english, german)
