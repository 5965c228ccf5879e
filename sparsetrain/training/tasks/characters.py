"""The next character of a text: perplexity."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from sparsetrain.data import text
from sparsetrain.training.tasks.streams import Streams, loaded
from sparsetrain.training.tasks.task import Loaded


class Characters(Streams):
    """See `Streams`; symbols are characters."""

    name: ClassVar[str] = "characters"
    models: ClassVar[tuple[str, ...]] = ("char_lstm",)


def synthetic(count: int = 1000, symbols: int = 8) -> text.Text:
    """A text that counts through its alphabet, and skips a letter now and then.

    Args:
      count: characters of all three parts.
      symbols: different ones.

    Returns:
      `text.Text`.

    Example:
      >>> synthetic(symbols=4).symbols
      'abcd'
    """
    steps = np.where(np.random.default_rng(0).random(count) < 0.125, 2, 1)
    steps[:symbols] = 1
    places = ord("a") + np.cumsum(steps) % symbols
    return text.encode("".join(map(chr, places.tolist())))


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    length: int = 50,
) -> Loaded:
    """Loads a text by characters, cut 90 : 5 : 5 in its own order.

    Args:
      name: of `data.text.load_text`, or "synthetic".
      path: as there.
      batch_size: rows of a worker.
      workers: W.
      sizes: of `synthetic`.
      length: T, characters that a step reads of a row.

    Returns:
      `Loaded`.

    Example:
      >>> load("synthetic", None, batch_size=2, workers=1, sizes={}, length=10).train[0].shape
      (88, 11)
    """
    found = synthetic(**sizes) if name == "synthetic" else text.load_text(name, path)
    return loaded(Characters, len(found.symbols), found, batch_size, workers, length)
