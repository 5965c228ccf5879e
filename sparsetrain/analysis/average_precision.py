"""How good detections are: COCO's twelve figures, counted by COCO's own code."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)


def average_precision(
    found: Sequence[tuple[Any, Any, Any]],
    true: Sequence[tuple[Any, Any]],
    sizes: Sequence[tuple[float, float]],
) -> dict[str, float]:
    """Mean average precision and recall over classes and overlaps of .5, .55, .. .95.

    Args:
      found: of each image: corners [L, 4] as fractions of its sides, labels int[L] and scores [L], as
        `models.detection.detect` gives them; rows of label 0 are left out.
      true: of each image: corners [N, 4] and labels int[N]; rows of label 0 are left out.
      sizes: of each image: width and height in pixels, by which COCO calls objects small (below 32 x
        32), medium, or large (above 96 x 96).

    Returns:
      The figures of `FIGURES`; -1 where there is no object to find.

    Raises:
      ImportError: no `pycocotools`; it is in the extra "detection".
      ValueError: unequal numbers of images.

    Reference: Lin et al., Microsoft COCO: Common Objects in Context (arXiv 1405.0312).
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(
            "average_precision needs pycocotools: pip install 'sparsetrain[detection]'"
        ) from error
    if not len(found) == len(true) == len(sizes):
        raise ValueError(
            f"found, true and sizes are of {len(found)}, {len(true)} and {len(sizes)} images"
        )
    classes = sorted({int(label) for _, labels in true for label in np.asarray(labels)} - {0})

    def dataset(images: Sequence[Sequence[Any]]) -> Any:
        annotations: list[dict[str, Any]] = []
        for image, ((corners, labels, *scores), size) in enumerate(zip(images, sizes, strict=True)):
            pixels = np.asarray(corners, np.float64).reshape(-1, 4) * np.tile(size, 2)[None]
            for row, label in enumerate(np.asarray(labels)):
                if label == 0:
                    continue
                left, top, right, bottom = pixels[row].tolist()
                annotation = {
                    "id": 1 + len(annotations),
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                }
                if scores:
                    annotation["score"] = float(np.asarray(scores[0])[row])
                annotations.append(annotation)
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(len(sizes))],
            "categories": [{"id": label} for label in classes],
            "annotations": annotations,
        }
        coco.createIndex()
        return coco

    # It tells its progress on the standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(true), dataset(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(FIGURES, map(float, evaluation.stats), strict=True))
