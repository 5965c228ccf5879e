"""CIFAR-10 as JPEG files: one archive of class folders, decoded in memory."""

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np

from sparsetrain.data.dataset import Dataset, Split, hold_out
from sparsetrain.data.files import pillow

NAME = "cifar10-jpeg"
ARCHIVE = "cifar10-jpeg.tar.xz"
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load(folder: Path, limit: int | None = None) -> Dataset:
    """Loads the images of `<folder>/cifar10-jpeg.tar.xz`, split 45,834 / 4,166 / 10,000.

    The archive holds `{train,test}/<class>/<number>.jpg`. Examples are put in the order of their
    numbers, the ten classes in turn, so that any run of neighbours is balanced. JPEG is lossy:
    methods can be compared with each other, but not with published accuracies.

    Args:
      folder: where the archive lies.
      limit: images of each class and part that are read, the first ones; None for all.

    Returns:
      `Dataset` with images uint8[N, 32, 32, 3] and 10 classes.

    Raises:
      FileNotFoundError: no archive there.
      ValueError: the archive is damaged, or a class lacks images.
      ImportError: Pillow is absent.

    Example:
      >>> load(Path("nowhere"))
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere holds no cifar10-jpeg.tar.xz: put the archive there
    """
    reader = pillow(NAME)
    path = folder / ARCHIVE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {ARCHIVE}: put the archive there")
    found: dict[str, dict[tuple[int, int], np.ndarray]] = {"train": {}, "test": {}}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                place = _place(member.name)
                file = archive.extractfile(member) if place and member.isfile() else None
                if not place or file is None or (limit is not None and place[1] >= limit):
                    continue
                image = reader.open(io.BytesIO(file.read())).convert("RGB")
                if image.size != (32, 32):
                    raise ValueError(f"{member.name} has {image.size} pixels, not 32 x 32")
                part, number, label = place
                found[part][number, label] = np.asarray(image)
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): fetch the archive of class folders again"
        ) from error
    return hold_out(*(_split(found[part], path, part) for part in ("train", "test")))


def _place(name: str) -> tuple[str, int, int] | None:
    """(part, number, label) of a file's name, or None for other files."""
    parts = Path(name).parts[-3:]
    if len(parts) < 3 or parts[0] not in ("train", "test") or parts[1] not in CLASSES:
        return None
    number = Path(parts[2]).stem
    return (parts[0], int(number), CLASSES.index(parts[1])) if number.isdecimal() else None


def _split(images: dict[tuple[int, int], np.ndarray], path: Path, part: str) -> Split:
    missing = set(range(len(CLASSES))) - {label for _, label in images}
    if missing:
        names = ", ".join(CLASSES[label] for label in sorted(missing))
        raise ValueError(f"{path} has no images in {part}/ of {names}: give the whole archive")
    order = sorted(images)
    labels = np.array([label for _, label in order], np.int32)
    # `tarfile` takes some damage for the end of the archive.
    if len(each := set(np.bincount(labels).tolist())) > 1:
        raise ValueError(
            f"{path} is damaged: its classes have from {min(each)} to {max(each)} images in {part}/, not "
            "all the same; fetch the archive of class folders again"
        )
    return Split(np.stack([images[key] for key in order]), labels)
