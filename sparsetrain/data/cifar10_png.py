"""CIFAR-10 with exact pixels: five PNG files of 1,000 images each, and their labels in a script."""

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from sparsetrain.data.dataset import Dataset, Split, hold_out
from sparsetrain.data.files import DamagedError, content, find, folder_of, pillow

NAME = "cifar10-png-subset"
LABELS = "cifar10_labels.js"
EACH = 1_000
# File -> the first of its labels: those of 50,000 training images, then of 1,000 test images.
TRAIN = {f"cifar10_batch_{batch}.png": batch * EACH for batch in range(4)}
TEST = {"cifar10_batch_50.png": 50 * EACH}


def load(path: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads the first 4,000 training and the first 1,000 test images, split 3,667 / 333 / 1,000.

    A row of a file is an image: its 32 x 32 pixels one row after the other.

    Args:
      path: folder of `cifar10_batch_{0,1,2,3,50}.png` and `cifar10_labels.js`. None looks into
        `$SPARSETRAIN_DATA/cifar10-png-subset`.

    Returns:
      `Dataset` with images uint8[N, 32, 32, 3] and 10 classes, by their places in
      `cifar10_jpeg.CLASSES`, in the order of the original.

    Raises:
      FileNotFoundError: a file is not there.
      DamagedError: a file is cut or holds something else; the message names it.
      ImportError: Pillow is absent.

    Example:
      >>> load("nowhere")
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere is not a folder: give the one with the files of 'cifar10-png-subset'
    """
    reader = pillow(NAME)
    folder = folder_of(NAME, path)
    labels = _labels(find(folder, LABELS))

    def images(file: Path) -> np.ndarray:
        try:
            picture: Any = reader.open(io.BytesIO(file.read_bytes()))
            pixels = np.asarray(picture)
        # Pillow reports a damaged chunk as a SyntaxError.
        except (OSError, SyntaxError, ValueError) as error:
            raise DamagedError(f"{file} is no whole PNG ({error}): fetch it again") from error
        if pixels.shape != (EACH, 32 * 32, 3) or pixels.dtype != np.uint8:
            raise DamagedError(
                f"{file} holds {pixels.dtype.name}{list(pixels.shape)} where "
                f"uint8[{EACH}, 1024, 3] is due: fetch it again, do not convert it"
            )
        return pixels.reshape(EACH, 32, 32, 3)

    def split(files: dict[str, int]) -> Split:
        parts = [images(find(folder, name)) for name in files]
        own = [labels[first : first + EACH] for first in files.values()]
        return Split(np.concatenate(parts), np.concatenate(own))

    return hold_out(split(TRAIN), split(TEST))


def _labels(path: Path) -> np.ndarray:
    """int32[51000] of a script that says `var labels=[6, 9, ...];`."""
    found = re.search(rb"labels\s*=\s*\[([\d,\s]*)\]", content(path))
    if not found:
        raise DamagedError(f"{path} holds no 'labels=[...]', or was cut: fetch it again")
    labels = np.array(found[1].replace(b",", b" ").split(), np.int32)
    if len(labels) != 51 * EACH or labels.max() > 9:
        raise DamagedError(
            f"{path} holds {len(labels)} labels where {51 * EACH} of 0..9 are due: fetch it again"
        )
    return labels
