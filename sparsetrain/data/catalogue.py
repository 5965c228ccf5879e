"""The papers' full data sets: what tensorflow-datasets calls them, and how they are opened.

Nothing is downloaded here. `tfds.builder(name, file_format="array_record").download_and_prepare()`
prepares a set; ImageNet's archives have to be fetched by hand before.

| name | catalogue | splits | examples | features |
| --- | --- | --- | --- | --- |
| imagenet | imagenet2012 | train, validation | 1,281,167 / 50,000 | image, label |
| coco | coco/2017 | train, validation | 118,287 / 5,000 | image, objects: bbox, label |
| wmt14-en-de | wmt14_translate/de-en | train, validation, test | 4.5 M / 3,000 / 3,003 | en, de |
| cifar10 | cifar10 | train, test | 50,000 / 10,000 | image, label |
| mnist | mnist | train, test | 60,000 / 10,000 | image, label |
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from sparsetrain.data import prepared


class Entry(NamedTuple):
    """A row of the table.

    Attributes:
      catalogue: name, with its configuration, in the catalogue of tensorflow-datasets.
      splits: those that are opened.
      features: that an example has to have.
    """

    catalogue: str
    splits: tuple[str, ...]
    features: tuple[str, ...]


ENTRIES = {
    "imagenet": Entry("imagenet2012", ("train", "validation"), ("image", "label")),
    "coco": Entry("coco/2017", ("train", "validation"), ("image", "objects")),
    "wmt14-en-de": Entry("wmt14_translate/de-en", ("train", "validation", "test"), ("en", "de")),
    "cifar10": Entry("cifar10", ("train", "test"), ("image", "label")),
    "mnist": Entry("mnist", ("train", "test"), ("image", "label")),
}


def sources(name: str, path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Opens a data set that is too large for memory; an example is read when it is asked for.

    Sets that fit are better loaded by `data.load`. Boxes of "coco" come as top, left, bottom, right
    in [0, 1].

    Args:
      name: of the table above.
      path: folder of one prepared version. None looks into `$SPARSETRAIN_DATA/<name>`, and then where
        tensorflow-datasets keeps its own, `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Returns:
      Split -> its examples: `len`, `[i]` and `__getitems__([i, ...])` give dicts of NumPy arrays, or
      lists of them where an example has several, such as boxes.

    Raises:
      ValueError: an unknown name, another format, or a split or a feature is not there.
      FileNotFoundError: the data set is nowhere, with the command that prepares it.
      ImportError: tensorflow-datasets is absent.

    Example:
      >>> sources("imagenet", "nowhere")                       # doctest: +ELLIPSIS
      Traceback (most recent call last):
          ...
      FileNotFoundError: no prepared 'imagenet2012' in nowhere: prepare it with ...
    """
    if name not in ENTRIES:
        raise ValueError(f"name={name!r} is an unknown data set; choose one of {sorted(ENTRIES)}")
    entry = ENTRIES[name]
    folder, searched = _folder(name, entry, path)
    if folder is None:
        raise FileNotFoundError(
            f"no prepared {entry.catalogue!r} in {searched}: prepare it with "
            f"tfds.builder({entry.catalogue!r}, file_format='array_record').download_and_prepare(), or give "
            "the folder of its version, the one with dataset_info.json"
        )
    found = prepared.open_splits(folder, entry.splits)
    for split, examples in found.items():
        there = set(examples[0]) if len(examples) else set()
        if not set(entry.features) <= there:
            raise ValueError(
                f"{folder} has {sorted(there) or 'no examples'} in its split {split!r} where the features "
                f"{' and '.join(entry.features)} are due: give {entry.catalogue!r}"
            )
    return found


def _folder(
    name: str, entry: Entry, path: str | os.PathLike[str] | None
) -> tuple[Path | None, str]:
    """Folder of a prepared version, and what to call the places that were searched."""
    if path is not None:
        folder = Path(path).expanduser()
        return (folder if prepared.is_prepared(folder) else None), str(folder)
    root = os.environ.get("SPARSETRAIN_DATA")
    if root and prepared.is_prepared(folder := Path(root).expanduser() / name):
        return folder, str(folder)
    kept = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    own = f"{root}/{name}" if root else "$SPARSETRAIN_DATA (which is not set)"
    return prepared.newest(entry.catalogue), f"{own} or {kept}"
