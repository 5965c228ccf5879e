"""Text by characters: one file, its symbols, and parallel streams to train recurrent networks on."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILES = {"tinyshakespeare": "input.txt"}


class Text(NamedTuple):
    """A text as numbers, cut into three parts in its own order.

    Attributes:
      symbols: the characters, by code point; a number is a place in this string.
      train: int32[N], the first 90%.
      validation: int32[N], the next 5%.
      test: int32[N], the last 5%.
    """

    symbols: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def encode(text: str) -> Text:
    """A text in numbers.

    Args:
      text: at least 20 characters.

    Returns:
      `Text` over the symbols that occur.

    Raises:
      ValueError: too short for three parts.

    Example:
      >>> text = encode("abba" * 10)
      >>> text.symbols, text.train[:4].tolist(), len(text.test)
      ('ab', [0, 1, 1, 0], 2)
    """
    if len(text) < 20:
        raise ValueError(f"a text of {len(text)} characters is too short: give at least 20")
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    found, numbers = np.unique(points, return_inverse=True)
    ends = [len(text) * percent // 100 for percent in (90, 95)]
    parts = np.split(numbers.astype(np.int32), ends)
    return Text("".join(map(chr, found.tolist())), *parts)


def load_text(name: str, path: str | os.PathLike[str] | None = None) -> Text:
    """Loads a text into memory; never downloads anything.

    Args:
      name: "tinyshakespeare", 1,115,394 characters, 65 of them different.
      path: its file, or the folder of the file `input.txt`. None looks into
        `$SPARSETRAIN_DATA/<name>`.

    Returns:
      `Text`.

    Raises:
      ValueError: an unknown name.
      FileNotFoundError: the file is not there; the message says where it is due.

    Example:
      >>> load_text("tinyshakespeare").train.shape        # doctest: +SKIP
      (1003854,)
    """
    if name not in FILES:
        raise ValueError(f"name={name!r} is an unknown text; choose one of {sorted(FILES)}")
    root = os.environ.get("SPARSETRAIN_DATA")
    place = Path(path) if path is not None else Path(root or "$SPARSETRAIN_DATA") / name
    file = place.expanduser()
    if file.is_dir():
        file = file / FILES[name]
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is absent: put {FILES[name]} of {name} into $SPARSETRAIN_DATA/{name}, or give its path"
        )
    return encode(file.read_text(encoding="utf-8"))


def streams(numbers: np.ndarray, rows: int, length: int) -> np.ndarray:
    """Cuts a text into parallel streams of whole windows, for truncated backpropagation through time.

    Window t of a row follows window t - 1 of that row, so the state of a recurrent network can be
    carried on. The last symbol of a window is the first of the next: inputs are `[..., :-1]`, targets
    `[..., 1:]`.

    Args:
      numbers: int32[N].
      rows: R, streams that are read side by side.
      length: T, targets of a window.

    Returns:
      int32[W, R, T + 1] with W = (N // R - 1) // T windows.

    Raises:
      ValueError: too few symbols for one window.

    Example:
      >>> streams(np.arange(10), rows=2, length=2).tolist()
      [[[0, 1, 2], [5, 6, 7]], [[2, 3, 4], [7, 8, 9]]]
    """
    each = len(numbers) // rows
    windows = (each - 1) // length
    if windows < 1:
        raise ValueError(
            f"{len(numbers)} symbols are too few for {rows} rows of {length + 1}: "
            "take fewer rows or shorter windows"
        )
    stream = numbers[: rows * each].reshape(rows, each)
    places = length * np.arange(windows)[:, None] + np.arange(length + 1)
    return stream[:, places].transpose(1, 0, 2).astype(np.int32)
