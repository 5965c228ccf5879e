"""The handwritten digits that ship inside scikit-learn: real data without a download."""

import numpy as np

from sparsetrain.data.dataset import Dataset, Split

VALIDATION, TEST = 180, 360


def load() -> Dataset:
    """Loads the 1,797 digits of 8 x 8 pixels, split 1,257 / 180 / 360.

    The published order goes by writer, so the examples are permuted first, by a generator whose
    stream NumPy never changes: the split is the same everywhere and for all seeds of a run. The 17
    grey levels 0..16 become round(level * 255 / 16), so that all data sets share one scale.

    Returns:
      `Dataset` with images uint8[N, 8, 8, 1] and 10 classes.

    Raises:
      ImportError: scikit-learn is absent.

    Reference: "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
      doi 10.24432/C50P49.

    Example:
      >>> load().train.images.shape
      (1257, 8, 8, 1)
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the data set 'digits' needs scikit-learn: pip install 'sparsetrain[train]'"
        ) from error
    bunch = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    images = np.rint(bunch.images[order, :, :, None] * (255 / 16)).astype(np.uint8)
    labels = bunch.target[order].astype(np.int32)
    train = len(labels) - VALIDATION - TEST
    parts = (slice(train), slice(train, train + VALIDATION), slice(train + VALIDATION, None))
    return Dataset(*(Split(images[part], labels[part]) for part in parts))
