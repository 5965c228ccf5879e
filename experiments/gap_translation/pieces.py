"""Sentences as numbers: pieces of words, found by byte-pair encoding on the training text."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

try:
    import sentencepiece
except ImportError as error:
    raise ImportError(
        "sentencepiece is absent: pip install 'sparsetrain[train,translation]'"
    ) from error

PAD, BEGIN, END, UNKNOWN = range(4)


def learn(sentences: Iterable[str], symbols: int) -> Any:
    """A vocabulary of pieces.

    Args:
      sentences: of both languages.
      symbols: pieces, the four special ones included.

    Returns:
      A `sentencepiece.SentencePieceProcessor`.
    """
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=symbols,
        model_type="bpe",
        character_coverage=1.0,
        pad_id=PAD,
        bos_id=BEGIN,
        eos_id=END,
        unk_id=UNKNOWN,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def encode(pieces: Any, sentences: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences as rows of numbers, each with its end, then padding.

    Args:
      pieces: of `learn`.
      sentences: N of them.
      length: L, entries of a row; what is longer is cut.

    Returns:
      int32[N, L], and bool[N], whether a sentence fitted.
    """
    numbers = [pieces.encode(sentence) for sentence in sentences]
    rows = np.full((len(sentences), length), PAD, np.int32)
    for row, each in zip(rows, numbers, strict=True):
        ended = [*each[: length - 1], END]
        row[: len(ended)] = ended
    fits = np.array([len(each) < length for each in numbers], bool)
    return rows, fits


def decode(pieces: Any, rows: np.ndarray) -> list[str]:
    """Rows of numbers as sentences, each up to its end."""
    found = []
    for row in rows.tolist():
        numbers = row[: row.index(END)] if END in row else row
        found.append(pieces.decode([number for number in numbers if number > UNKNOWN]))
    return found
