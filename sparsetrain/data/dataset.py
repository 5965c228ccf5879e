"""What a data set is: three splits of images and labels in host memory."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Examples and their classes.

    Attributes:
      images: uint8[N, H, W, C], 0 is black and 255 white.
      labels: int32[N], 0 up to the number of classes - 1.
    """

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """Training, validation and test examples; no example is in two of them.

    Attributes:
      train: examples that are trained on.
      validation: examples that choose the epoch and the hyper-parameters.
      test: examples that are only reported.
    """

    train: Split
    validation: Split
    test: Split


def hold_out(train: Split, test: Split) -> Dataset:
    """Makes the last twelfth of the training examples the validation set.

    Of MNIST's 60,000 these are the last 5,000, the usual 55,000 / 5,000 / 10,000 split.

    Args:
      train: N examples in their published order.
      test: test examples, untouched.

    Returns:
      `Dataset` with N - N // 12 training and N // 12 validation examples.

    Raises:
      ValueError: fewer than 12 training examples, so that no validation example is left.

    Example:
      >>> split = Split(np.zeros([24, 8, 8, 1], np.uint8), np.arange(24, dtype=np.int32))
      >>> hold_out(split, split).validation.labels
      array([22, 23], dtype=int32)
    """
    held = len(train.labels) // 12
    if held == 0:
        raise ValueError(
            f"{len(train.labels)} training examples are too few to hold a twelfth out for validation: "
            "give at least 12"
        )
    kept = Split(train.images[:-held], train.labels[:-held])
    return Dataset(kept, Split(train.images[-held:], train.labels[-held:]), test)
