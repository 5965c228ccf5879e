"""Data sets that tensorflow-datasets has prepared, read without TensorFlow.

Random access needs the array_record format, the one format that tensorflow-datasets reads without
TensorFlow.
"""

import importlib.util
import os
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
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ImportError(f"{folder} is prepared by tensorflow-datasets, which is absent: {EXTRA}")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    absent = {"train", "test"} - set(builder.info.splits)
    if absent:
        raise ValueError(
            f"{folder} has no split {sorted(absent)}, only {sorted(builder.info.splits)}: "
            "prepare the data set with the splits train and test"
        )
    try:
        sources = builder.as_data_source(split=["train", "test"])
    except NotImplementedError as error:
        raise ValueError(
            f"{folder} is not prepared for random access: prepare it with file_format='array_record'"
        ) from error
    return _collected(sources, str(folder))


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
    place = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser() / name
    versions = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in place.glob("*.*.*")
        if folder.name.replace(".", "").isdecimal() and is_prepared(folder)
    }
    return read_directory(versions[max(versions)]) if versions else None


def _collected(sources: Any, origin: str) -> Dataset:
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
