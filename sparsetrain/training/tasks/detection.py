"""Boxes of objects: the loss of a split at every evaluation, mean average precision at the end."""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain import analysis
from sparsetrain.data import bccd
from sparsetrain.data.boxes import Detection
from sparsetrain.models import boxes, detection
from sparsetrain.training.tasks.images import pixels
from sparsetrain.training.tasks.task import Loaded, Task

# Default boxes by the side of the images: those of SSD300, and of two maps for tests.
MAPS: dict[int, dict[str, Any]] = {
    300: {},
    16: {
        "cells": (4, 2),
        "steps": (4, 8),
        "sizes": (4, 8, 12),
        "ratios": ((2,), (2,)),
        "image": 16,
    },
}
TOGETHER = 8  # images that are looked at at once in evaluation


@functools.cache
def defaults(side: int) -> np.ndarray:
    """Default boxes float32[D, 4] of images of some side."""
    return boxes.default_boxes(**MAPS[side])


@dataclasses.dataclass(frozen=True)
class Detecting(Task):
    """Batches are images uint8[B, S, S, 3], boxes float32[B, M, 4] and classes int32[B, M], `NO_BOX` behind them.

    Attributes:
      classes: number of logits, background among them.
      side: S.
    """

    classes: int
    side: int

    name: ClassVar[str] = "detection"
    models: ClassVar[tuple[str, ...]] = ("ssd300",)
    score: ClassVar[str] = "loss"
    is_higher_better: ClassVar[bool] = False

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {"classes": self.classes}

    @property
    def evaluation_rows(self) -> int:
        return TOGETHER

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        return (pixels(jnp.asarray(batch[0])),)

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        _, corners, classes = batch
        match = jax.vmap(functools.partial(boxes.match, defaults=jnp.asarray(defaults(self.side))))
        # `NO_BOX` becomes the background, class 0.
        true_offsets, labels = match(corners, classes + 1)
        offsets, logits = outputs
        return detection.multibox_loss(offsets, logits, true_offsets, labels)

    def tally(self, outputs: Any, batch: Any) -> Any:
        images = len(batch[0])
        return self.loss(outputs, batch) * images, jnp.int32(images)

    def scores(self, sums: Any) -> dict[str, jax.Array]:
        losses, images = sums
        return {"loss": losses / images}


@functools.partial(jax.jit, static_argnums=(0, 3))
def detections(model: Any, variables: Any, images: jax.Array, side: int) -> Any:
    """Images uint8[B, S, S, 3] -> `models.detection.Detections`."""
    offsets, logits = model.apply(variables, pixels(images))
    centres = jnp.asarray(defaults(side))
    limit = min(200, (logits.shape[-1] - 1) * len(centres))
    look = functools.partial(detection.detect, defaults=centres, limit=limit)
    return jax.vmap(look)(offsets, logits)


def synthetic(count: int = 16, side: int = 16) -> bccd.Cells:
    """Dark images with one bright box each, of one of two classes by its colour.

    Args:
      count: training images; half as many validate and test.
      side: 16 or 300.

    Returns:
      `bccd.Cells`.

    Example:
      >>> synthetic(count=2).train.boxes.shape
      (2, 1, 4)
    """
    chance = np.random.default_rng(0)

    def part(count: int) -> Detection:
        images = chance.integers(0, 64, (count, side, side, 3), np.uint8)
        corners = np.zeros([count, 1, 4], np.float32)
        classes = (np.arange(count) % 2).astype(np.int32)
        for image, box, label in zip(images, corners, classes, strict=True):
            size, (x, y) = side // 3, chance.integers(0, side // 2, 2)
            image[y : y + size, x : x + size, 2 * label] = 255
            box[0] = np.array([x, y, x + size, y + size]) / side
        return Detection(images, corners, classes[:, None], ("",) * count, 0)

    return bccd.Cells(part(count), part(count // 2), part(count // 2))


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    limit: int | None = None,
) -> Loaded:
    """Loads images with boxes.

    Args:
      name: "bccd" or "synthetic".
      path: as for `data.bccd.load`.
      batch_size: any.
      workers: any.
      sizes: of `synthetic`.
      limit: images of each part; None for all.

    Returns:
      `Loaded`; at the end of a run "ap", "ap50" and so on of the sizes that objects have, where pycocotools are
      there.

    Raises:
      ValueError: an unknown name.

    Example:
      >>> load("synthetic", None, batch_size=4, workers=1, sizes={}).task
      Detecting(classes=3, side=16)
    """
    del batch_size, workers
    if name not in (bccd.NAME, "synthetic"):
        raise ValueError(f"data.name={name!r} has no boxes; choose {bccd.NAME} or synthetic")
    found = synthetic(**sizes) if name == "synthetic" else bccd.load(path, limit=limit)
    side, classes = found.train.images.shape[1], 2 + int(found.train.classes.max())

    def at_end(model: Any, variables: Any, split: str) -> dict[str, float]:
        if importlib.util.find_spec("pycocotools") is None:
            return {}
        part = getattr(found, split)
        looked = []
        for place in range(0, len(part.images), TOGETHER):
            rows = part.images[place : place + TOGETHER]
            # Filled up, so that one program serves all.
            full = np.concatenate([rows, np.repeat(rows[:1], TOGETHER - len(rows), axis=0)])
            seen = jax.device_get(detections(model, variables, jnp.asarray(full), side))
            looked += [tuple(leaf[row] for leaf in seen) for row in range(len(rows))]
        # Class 0 is the background.
        true = list(zip(part.boxes, part.classes + 1, strict=True))
        figures = analysis.average_precision(looked, true, [(side, side)] * len(true))
        # Less than zero says that there is no object of that size.
        return {name.lower(): value for name, value in figures.items() if value >= 0}

    train, validation, test = ((part.images, part.boxes, part.classes) for part in found)
    empty = sum(part.empty for part in found)
    note = f"{empty} boxes of no area are left out"
    return Loaded(
        Detecting(classes, side), train, validation, test, (note,) if empty else (), at_end=at_end
    )
