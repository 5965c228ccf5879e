"""BCCD, blood cells under a microscope: one archive of images with annotations in VOC's XML."""

import io
import lzma
import os
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparsetrain.data import boxes
from sparsetrain.data.boxes import Annotation, Detection
from sparsetrain.data.files import DamagedError, folder_of, pillow

NAME = "bccd"
ARCHIVE = "BCCD.tar.xz"
CLASSES = ("RBC", "WBC", "Platelets")
PARTS = {"train": "train", "validation": "val", "test": "test"}


class Cells(NamedTuple):
    """The three parts that the archive lists.

    Attributes:
      train: 205 images.
      validation: 87 images.
      test: 72 images.
    """

    train: Detection
    validation: Detection
    test: Detection


def load(
    path: str | os.PathLike[str] | None = None, size: int = 300, limit: int | None = None
) -> Cells:
    """Loads 364 images with 4,888 boxes of 3 classes: 4,155 red cells, 372 white, 361 platelets.

    Two boxes have no area; they are left out and counted. The other 4,886 are in the arrays, whose
    number of rows is the same in all three parts.

    Args:
      path: folder of `BCCD.tar.xz`. None looks into `$SPARSETRAIN_DATA/bccd`.
      size: S, pixels of a side that images are resized to, 300 as for SSD300. Their shape of 4 : 3
        is not kept, as in SSD.
      limit: images of each part that are read, the first ones; None for all.

    Returns:
      `Cells`, with classes by their place in `CLASSES`.

    Raises:
      FileNotFoundError: no archive there.
      DamagedError: the archive is cut, lacks a file, or a file in it is unreadable; the message
        names it.
      ImportError: Pillow is absent.

    Reference: https://github.com/Shenggan/BCCD_Dataset

    Example:
      >>> load("nowhere")
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere is not a folder: give the one with the files of 'bccd'
    """
    reader = pillow(NAME)
    archive = folder_of(NAME, path) / ARCHIVE
    if not archive.is_file():
        raise FileNotFoundError(f"{archive.parent} holds no {ARCHIVE}: put the archive there")
    content = _content(archive)

    def image(name: str, expected: tuple[int, int]) -> np.ndarray:
        file = f"JPEGImages/{name}.jpg"
        try:
            picture: Any = reader.open(io.BytesIO(_file(content, file, archive)))
            if picture.size != expected:
                raise DamagedError(
                    f"{archive}: {file} has {picture.size} pixels where its annotation says {expected}: "
                    "fetch the archive again"
                )
            # bilinear, as SSD's reference code does.
            return np.asarray(
                picture.convert("RGB").resize((size, size), reader.Resampling.BILINEAR)
            )
        except OSError as error:
            raise DamagedError(
                f"{archive}: {file} is no whole image ({error}): fetch the archive again"
            ) from error

    def part(names: list[str]) -> tuple[list[Annotation], np.ndarray, int]:
        raw = []
        for name in names:
            file = f"Annotations/{name}.xml"
            raw.append(parsed(_file(content, file, archive), f"{archive}: {file}"))
        kept = [boxes.with_area(annotation) for annotation in raw]
        images = np.stack([image(name, a.size) for name, a in zip(names, raw, strict=True)])
        return kept, images, sum(len(a.classes) for a in raw) - sum(len(a.classes) for a in kept)

    lists = {
        key: _file(content, f"ImageSets/Main/{stem}.txt", archive).decode().split()[:limit]
        for key, stem in PARTS.items()
    }
    parts = {key: part(names) for key, names in lists.items()}
    most = max(len(a.classes) for annotations, _, _ in parts.values() for a in annotations)
    return Cells(
        **{
            key: Detection(images, *boxes.padded(kept, most), tuple(lists[key]), empty)
            for key, (kept, images, empty) in parts.items()
        }
    )


def parsed(xml: bytes, place: str, classes: tuple[str, ...] = CLASSES) -> Annotation:
    """Reads an annotation of PASCAL VOC.

    Args:
      xml: content of the file.
      place: what to call it in messages.
      classes: names that may occur.

    Returns:
      `Annotation` with the boxes as they stand there, classes by their place in `classes`.

    Raises:
      DamagedError: no XML, a number that is missing, another class, or a box that is turned round
        or reaches out of the image.

    Example:
      >>> box = b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
      >>> size = b"<size><width>8</width><height>6</height></size>"
      >>> found = parsed(
      ...     b"<a>" + size + b"<object><name>WBC</name>" + box + b"</object></a>", "a.xml"
      ... )
      >>> found.size, found.boxes.tolist(), found.classes.tolist()
      ((8, 6), [[1.0, 2.0, 3.0, 4.0]], [1])
    """
    cure = "mend the annotation or fetch the archive again"
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise DamagedError(f"{place} is no XML ({error}): {cure}") from error

    def number(element: ElementTree.Element, tag: str) -> float:
        text = (element.findtext(tag) or "").strip()
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise DamagedError(f"{place} has {tag} {text!r} where a number is due: {cure}")
        return value

    width, height = (number(root, f"size/{side}") for side in ("width", "height"))
    if width < 1 or height < 1:
        raise DamagedError(f"{place} gives the image {width:g} x {height:g} pixels: {cure}")
    found, labels = [], []
    for element in root.iter("object"):
        name = (element.findtext("name") or "").strip()
        if name not in classes:
            raise DamagedError(
                f"{place} has the class {name!r}, none of {', '.join(classes)}: {cure}"
            )
        left, top, right, bottom = box = [
            number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
        ]
        if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
            raise DamagedError(
                f"{place} has the box {box}, which is turned round or not inside {width:g} x {height:g} "
                f"pixels: {cure}"
            )
        found.append(box)
        labels.append(classes.index(name))
    table = np.array(found, np.float64).reshape(-1, 4)
    return Annotation((int(width), int(height)), table, np.array(labels, np.int32))


def _content(path: Path) -> dict[str, bytes]:
    """Files of the archive's folder by their names in it."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    found[member.name.partition("BCCD/")[2]] = file.read()
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError) as error:
        raise DamagedError(f"{path} is damaged ({error}): fetch the archive again") from error
    return found


def _file(content: dict[str, bytes], name: str, path: Path) -> bytes:
    if name not in content:
        raise DamagedError(f"{path} lacks {name}: fetch the whole archive again")
    return content[name]
