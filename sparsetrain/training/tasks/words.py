"""The next word of a text: perplexity."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from sparsetrain.data import words
from sparsetrain.training.tasks.streams import Streams, loaded
from sparsetrain.training.tasks.task import Loaded


class Words(Streams):
    """See `Streams`; symbols are words, ends of lines among them."""

    name: ClassVar[str] = "words"
    models: ClassVar[tuple[str, ...]] = ("word_lstm",)


def synthetic(count: int = 400, symbols: int = 8) -> words.Words:
    """A text in which most words say the next.

    Args:
      count: words of the training text; a quarter as many validate and test.
      symbols: different words, without the unknown one and the end of a line.

    Returns:
      `words.Words`.

    Example:
      >>> len(synthetic(symbols=5).vocabulary)
      7
    """
    chance = np.random.default_rng(0)

    def lines(count: int) -> list[str]:
        # Every word is there; then each follows its predecessor, but for one in eight.
        steps = np.where(chance.random(count) < 0.125, chance.integers(0, symbols, count), 1)
        steps[:symbols] = 1
        places = np.cumsum(steps) % symbols
        return [" ".join(f"w{place}" for place in row) for row in np.array_split(places, 4)]

    return words.encode(lines(count), lines(count // 4), lines(count // 4))


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    length: int = 35,
    size: int | None = 10_000,
) -> Loaded:
    """Loads a text by words.

    Args:
      name: of `data.words.load_words`, or "synthetic".
      path: as there.
      batch_size: rows of a worker.
      workers: W.
      sizes: of `synthetic`.
      length: T, words that a step reads of a row.
      size: symbols at most.

    Returns:
      `Loaded`.

    Example:
      >>> load("synthetic", None, batch_size=2, workers=2, sizes={}, length=5).train[0].shape
      (80, 6)
    """
    found = synthetic(**sizes) if name == "synthetic" else words.load_words(name, path, size)
    return loaded(Words, len(found.vocabulary), found, batch_size, workers, length)
