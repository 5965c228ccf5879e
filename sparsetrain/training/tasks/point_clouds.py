"""Parts of shapes: mean intersection over union, by kind and by shape."""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain.data import point_clouds
from sparsetrain.data.point_clouds import FIRST, KINDS, Clouds
from sparsetrain.training.tasks.task import Loaded, Task

# bool[kinds, parts], which parts a kind of shape has.
HAS = np.stack(
    [
        (np.arange(FIRST[-1]) >= first) & (np.arange(FIRST[-1]) < last)
        for first, last in itertools.pairwise(FIRST)
    ]
)


@dataclasses.dataclass(frozen=True)
class PointClouds(Task):
    """Batches are `Clouds`. Models see coordinates, normals and the kind, and name one of its parts.

    A part that a shape has neither in truth nor in what is said of it counts as 1, as in ShapeNet's usual score.
    """

    name: ClassVar[str] = "point_clouds"
    models: ClassVar[tuple[str, ...]] = ("pointnet2",)
    score: ClassVar[str] = "class_miou"

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {"parts": HAS.shape[1], "categories": HAS.shape[0]}

    @property
    def evaluation_rows(self) -> int:
        return 20

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        points, normals, _, kinds = batch
        return jnp.concatenate([points, normals], -1), kinds

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[2]).mean()

    def tally(self, outputs: Any, batch: Any) -> Any:
        _, _, parts, kinds = batch
        has = jnp.asarray(HAS)[kinds]
        said = jnp.where(has[:, None], outputs, -jnp.inf).argmax(-1)
        found, true = (jax.nn.one_hot(part, HAS.shape[1]) for part in (said, parts))
        both = (found * true).sum(1)
        either = jnp.maximum(found, true).sum(1)
        share = jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0)
        of_shape = jnp.where(has, share, 0).sum(1) / has.sum(1)
        kind = jax.nn.one_hot(kinds, HAS.shape[0])
        return (kind * of_shape[:, None]).sum(0), kind.sum(0)

    def scores(self, sums: Any) -> dict[str, jax.Array]:
        shares, shapes = sums
        there = shapes > 0
        by_kind = jnp.where(there, shares / jnp.maximum(shapes, 1), 0)
        return {
            "class_miou": by_kind.sum() / there.sum(),
            "instance_miou": shares.sum() / shapes.sum(),
        }


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    shapes: int = 2000,
    points: int = 2048,
    seed: int = 0,
) -> Loaded:
    """Draws shapes of `data.point_clouds`; there is no reader of ShapeNet.

    Args:
      name: "shapes", or "synthetic" for a few of few points.
      path: None.
      batch_size: any.
      workers: any.
      sizes: `count` and `points` of "synthetic".
      shapes: of training; a tenth as many validate, a fifth test.
      points: of each.
      seed: of the shapes.

    Returns:
      `Loaded`.

    Raises:
      ValueError: an unknown name, or a path.

    Example:
      >>> found = load("synthetic", None, batch_size=4, workers=1, sizes={})
      >>> found.train.points.shape, found.test.parts.shape
      ((20, 16, 3), (10, 16))
    """
    del batch_size, workers
    if name not in ("shapes", "synthetic") or path is not None:
        raise ValueError(
            f"data.name={name!r}, data.path={path!r}: shapes are drawn; choose shapes or synthetic, no path"
        )
    counts = (shapes, max(1, shapes // 10), max(1, shapes // 5))
    if name == "synthetic":
        few = {"count": 20, "points": 16, **sizes}
        counts, points = (few["count"], few["count"] // 2, few["count"] // 2), few["points"]
    key, first, parts = jax.random.key(seed), 0, list[Clouds]()
    for count in counts:
        parts.append(point_clouds.sample(key, count, points, first))
        first += count
    note = f"shapes of {len(KINDS)} kinds are drawn, not ShapeNet's: compare methods, not figures"
    train, validation, test = parts
    return Loaded(PointClouds(), train, validation, test, (note,) if name == "shapes" else ())
