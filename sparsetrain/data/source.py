"""Where a data set is found: a path, `$SPARSETRAIN_DATA`, tensorflow-datasets, in that order."""

import os
from pathlib import Path
from typing import NamedTuple

from sparsetrain.data import cifar10_jpeg, cifar10_png, digits, idx, prepared
from sparsetrain.data.dataset import Dataset, hold_out


class Origin(NamedTuple):
    """How the files of a data set are called.

    Attributes:
      train: files of training images and labels; empty where only prepared folders are read.
      test: files of test images and labels.
      catalogue: name in the catalogue of tensorflow-datasets.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    catalogue: str


_TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
_TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")

ORIGINS = {
    "cifar10": Origin((), (), "cifar10"),
    "fashion-mnist": Origin(_TRAIN, _TEST, "fashion_mnist"),
    "mnist": Origin(_TRAIN, _TEST, "mnist"),
}


def load(name: str, path: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set into memory; never downloads anything.

    Looks, in this order, into `path`; into `$SPARSETRAIN_DATA/<name>`; and for what
    tensorflow-datasets has prepared in the array_record format. The first place that exists is
    taken, and an error in it is not passed over.

    Args:
      name: "digits", which ship inside scikit-learn, "mnist", "fashion-mnist", "cifar10-jpeg",
        "cifar10-png-subset", or "cifar10", which tensorflow-datasets alone has.
      path: folder with the four idx files of the data set (a file may lack its ".gz" if it is
        unpacked), with `cifar10-jpeg.tar.xz` or the PNG files, or one that tensorflow-datasets has
        prepared. None searches the other places.

    Returns:
      `Dataset` with images uint8[N, H, W, C] and labels int32[N]. MNIST and Fashion-MNIST are split
      55,000 / 5,000 / 10,000, the last 5,000 training examples being the validation set.

    Raises:
      ValueError: an unknown name, a path for a data set that needs none, or damaged files.
      FileNotFoundError: the data set is nowhere; the message lists the files wanted.
      ImportError: a package that the data set needs is absent.
      OSError: a file cannot be opened.

    Example:
      >>> load("digits").test.labels.shape
      (360,)
    """
    if name == "digits":
        if path is not None:
            raise ValueError(
                f"path={str(path)!r}: the digits ship inside scikit-learn, leave path out"
            )
        return digits.load()
    if name == cifar10_jpeg.NAME:
        folder = Path(os.environ.get("SPARSETRAIN_DATA", "")) / name if path is None else Path(path)
        return cifar10_jpeg.load(folder.expanduser())
    if name == cifar10_png.NAME:
        return cifar10_png.load(path)
    if name not in ORIGINS:
        known = ", ".join(sorted([*ORIGINS, cifar10_jpeg.NAME, cifar10_png.NAME, "digits"]))
        raise ValueError(f"name={name!r} is an unknown data set; choose one of {known}")
    origin = ORIGINS[name]
    if path is not None:
        return _read(Path(path).expanduser(), origin)
    root = os.environ.get("SPARSETRAIN_DATA")
    if root and (folder := Path(root).expanduser() / name).exists():
        return _read(folder, origin)
    found = prepared.find(origin.catalogue)
    if found is not None:
        return found
    searched = f"{root}/{name}" if root else "$SPARSETRAIN_DATA (which is not set)"
    raise FileNotFoundError(
        f"the data set {name!r} is neither in {searched} nor prepared by tensorflow-datasets as "
        f"{origin.catalogue!r}: put {_listed(origin)} into $SPARSETRAIN_DATA/{name}, or give the path "
        "of their folder"
    )


def _read(folder: Path, origin: Origin) -> Dataset:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder: give the one that holds {_listed(origin)}"
        )
    if prepared.is_prepared(folder):
        return prepared.read_directory(folder)
    names = (*origin.train, *origin.test)
    if not names:
        raise FileNotFoundError(
            f"{folder} lacks {_listed(origin)}: give the folder of a prepared version"
        )
    files = {name: file for name in names if (file := _file(folder, name))}
    missing = [name for name in names if name not in files]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: put the missing files there")
    train, test = (
        idx.read_pair(*map(files.__getitem__, pair)) for pair in (origin.train, origin.test)
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise idx.MismatchError(
            f"{folder} has training images of shape {train.images.shape[1:]} and test images of shape "
            f"{test.images.shape[1:]}: take all four files from the same data set"
        )
    return hold_out(train, test)


def _file(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / name.removesuffix(".gz"))
    return next((file for file in candidates if file.is_file()), None)


def _listed(origin: Origin) -> str:
    files = ", ".join((*origin.train, *origin.test))
    return files or f"dataset_info.json and the array_record files of {origin.catalogue!r}"
