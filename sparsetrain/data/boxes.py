"""Object detection: images of one size, boxes as shares of them, as many rows for every image."""

from typing import NamedTuple

import numpy as np

NO_BOX = -1


class Detection(NamedTuple):
    """Images and the boxes in them; rows behind the boxes of an image are zeros.

    Attributes:
      images: uint8[N, S, S, 3].
      boxes: float32[N, M, 4], left, top, right, bottom in [0, 1] of width and height.
      classes: int32[N, M], `NO_BOX` behind the boxes.
      names: N names of the images.
      empty: boxes of no area in the annotations, which are left out.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    empty: int


class Annotation(NamedTuple):
    """What an annotation says of an image.

    Attributes:
      size: width and height in pixels.
      boxes: float64[K, 4], left, top, right, bottom in pixels.
      classes: int32[K].
    """

    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray


def with_area(annotation: Annotation) -> Annotation:
    """Without boxes whose left is their right or whose top is their bottom: nothing fits into them.

    Args:
      annotation: K boxes.

    Returns:
      `Annotation` of those that have an area.

    Example:
      >>> boxes = np.array([[1, 1, 1, 1], [0, 0, 2, 2]], float)
      >>> with_area(Annotation((4, 4), boxes, np.array([0, 1], np.int32))).classes
      array([1], dtype=int32)
    """
    kept = np.all(annotation.boxes[:, :2] < annotation.boxes[:, 2:], axis=1)
    return Annotation(annotation.size, annotation.boxes[kept], annotation.classes[kept])


def padded(annotations: list[Annotation], most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of images as arrays of one shape.

    Args:
      annotations: of N images.
      most: M, rows of an image; None for as many as the fullest image needs.

    Returns:
      float32[N, M, 4], boxes as shares of width and height, and int32[N, M], their classes.

    Raises:
      ValueError: an image has more than M boxes.

    Example:
      >>> found = Annotation((4, 2), np.array([[1.0, 0, 2, 2]]), np.array([7], np.int32))
      >>> boxes, classes = padded([found], most=2)
      >>> boxes[0].tolist(), classes.tolist()
      ([[0.25, 0.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0]], [[7, -1]])
    """
    counts = [len(annotation.classes) for annotation in annotations]
    fullest = max(counts, default=0)
    if most is None:
        most = fullest
    if fullest > most:
        raise ValueError(
            f"image {counts.index(fullest)} has {fullest} boxes, more than most={most}: raise it"
        )
    boxes = np.zeros([len(annotations), most, 4], np.float32)
    classes = np.full([len(annotations), most], NO_BOX, np.int32)
    for row, (annotation, count) in enumerate(zip(annotations, counts, strict=True)):
        boxes[row, :count] = annotation.boxes / np.tile(annotation.size, 2)
        classes[row, :count] = annotation.classes
    return boxes, classes
