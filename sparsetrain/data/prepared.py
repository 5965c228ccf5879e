"""Data sets that tensorflow-datasets has prepared, read without TensorFlow.

Random access needs the array_record format, the one format that tensorflow-datasets reads without
TensorFlow.
"""

import importlib.util
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparsetrain.data.dataset import Dataset, Split, hold_out

EXTRA = "pip install 'sparsetrain[tfds]'"


def is_prepared(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a prepared data set, the one with `dataset_info.json`."""
    return (Path(folder) / "dataset_info.json").is_file()


def read_directory(folder: str | os.PathLike[str]) -> Dataset:
    """Reads the folder of one prepared data set and version.

    Args:
      folder: holds `dataset_info.json` and array_record files, with the splits "train" and "test"
        and the features "image" and "label".

    Returns:
      `Dataset`, the last twelfth of "train" held out for validation.

    Raises:
      ImportError: tensorflow-datasets is absent.
      ValueError: another format, or splits or features of other names.
    """
    return _collected(open_splits(folder, ("train", "test")).values(), str(folder))


def open_splits(folder: str | os.PathLike[str], splits: Sequence[str]) -> dict[str, Any]:
    """Opens splits of one prepared data set and version; an example is read when it is asked for.

    Args:
      folder: holds `dataset_info.json` and array_record files.
      splits: names of those wanted.

    Returns:
      Split -> its examples: `len`, `[i]` and `__getitems__([i, ...])` give dicts of NumPy arrays, or
      lists of them where an example has several, such as boxes.

    Raises:
      ImportError: tensorflow-datasets is absent.
      ValueError: another format, or a split is not there.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ImportError(f"{folder} is prepared by tensorflow-datasets, which is absent: {EXTRA}")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    absent = set(splits) - set(builder.info.splits)
    if absent:
        raise ValueError(
            f"{folder} has no split {sorted(absent)}, only {sorted(builder.info.splits)}: "
            f"prepare the data set with the splits {' and '.join(splits)}"
        )
    try:
        sources = builder.as_data_source(split=list(splits))
    except NotImplementedError as error:
        raise ValueError(
            f"{folder} is not prepared for random access: prepare it with file_format='array_record'"
        ) from error
    return dict(zip(splits, sources, strict=True))


def find(name: str) -> Dataset | None:
    """Looks a data set up where tensorflow-datasets keeps its own, and never downloads.

    Reads the newest version there by what its folder says of itself. `tfds.data_source(name)` would
    read it by the builder of that name in the installed catalogue, which fails where the features
    differ.

    Args:
      name: as in the catalogue, such as "fashion_mnist". The place is `$TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.

    Returns:
      `Dataset`, or None where the package is absent or nothing is prepared under that name.

    Raises:
      ValueError: as from `read_directory`.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None:
        return None
    folder = newest(name)
    return read_directory(folder) if folder else None


def newest(name: str) -> Path | None:
    """Folder of the newest version that tensorflow-datasets keeps, or None.

    Args:
      name: as in the catalogue, with its configuration where it has one, such as "coco/2017".

    Returns:
      A folder that `is_prepared`.
    """
    place = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser() / name
    versions = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in place.glob("*.*.*")
        if folder.name.replace(".", "").isdecimal() and is_prepared(folder)
    }
    return versions[max(versions)] if versions else None


def _collected(sources: Iterable[Any], origin: str) -> Dataset:
    parts = []
    for source in sources:
        # One call for all examples; one by one costs three times as much.
        examples = source.__getitems__(range(len(source)))
        if not examples or not {"image", "label"} <= examples[0].keys():
            there = sorted(examples[0]) if examples else "no examples"
            raise ValueError(
                f"{origin} has {there} where the features 'image' and 'label' are due: "
                "give an image classification data set"
            )
        images = np.stack([example["image"] for example in examples])
        labels = np.array([example["label"] for example in examples], np.int32)
        parts.append(Split(images, labels))
    return hold_out(*parts)
