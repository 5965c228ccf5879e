"""Boxes of a detector: default boxes, overlap, offsets between boxes, and who is matched with whom.

Boxes are fractions of the image's sides, as corners (left, top, right, bottom) or as centres (x, y,
width, height); names say which.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Of what the network says, so that its targets have a spread near one.
SCALE = np.array([0.1, 0.1, 0.2, 0.2], np.float32)


def default_boxes(
    cells: Sequence[int] = (38, 19, 10, 5, 3, 1),
    steps: Sequence[float] = (8, 16, 32, 64, 100, 300),
    sizes: Sequence[float] = (21, 45, 99, 153, 207, 261, 315),
    ratios: Sequence[Sequence[float]] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    image: float = 300,
) -> np.ndarray:
    """Centres of the boxes that a network's outputs refer to, in the order of `SSD300`'s outputs.

        at each cell of a map: (s_k, s_k), (sqrt(s_k s_{k+1}), the same), and for each ratio r both
        (s_k sqrt(r), s_k / sqrt(r)) and its transpose

    The defaults are those of SSD300 on COCO, 8732 boxes.

    Args:
      cells: cells of each map's side.
      steps: pixels from one cell to the next.
      sizes: s_k in pixels, one more than there are maps.
      ratios: width by height, of each map.
      image: pixels of the image's side.

    Returns:
      float32[D, 4], (x, y, width, height), cut to [0, 1]; cell by cell, a cell's boxes together.

    Reference: Liu et al., SSD: Single Shot MultiBox Detector (arXiv 1512.02325), section 2.2.

    Example:
      >>> default_boxes().shape, (300 * default_boxes()[0]).round(3).tolist()
      ((8732, 4), [4.0, 4.0, 21.0, 21.0])
    """
    boxes = []
    for k, side in enumerate(cells):
        between = math.sqrt(sizes[k] * sizes[k + 1])
        shapes = [(sizes[k], sizes[k]), (between, between)]
        for ratio in ratios[k]:
            wide, high = sizes[k] * math.sqrt(ratio), sizes[k] / math.sqrt(ratio)
            shapes += [(wide, high), (high, wide)]
        y, x = np.meshgrid(*[(np.arange(side) + 0.5) * steps[k]] * 2, indexing="ij")
        centres = np.stack([x, y], -1).reshape(-1, 1, 2).repeat(len(shapes), 1)
        extents = np.broadcast_to(np.array(shapes), centres.shape)
        boxes.append(np.concatenate([centres, extents], -1).reshape(-1, 4))
    return np.clip(np.concatenate(boxes) / image, 0, 1).astype(np.float32)


def to_corners(centres: jax.Array) -> jax.Array:
    """(x, y, width, height) -> (left, top, right, bottom), [..., 4]."""
    middle, extent = jnp.split(jnp.asarray(centres), 2, -1)
    return jnp.concatenate([middle - extent / 2, middle + extent / 2], -1)


def to_centres(corners: jax.Array) -> jax.Array:
    """(left, top, right, bottom) -> (x, y, width, height), [..., 4]."""
    low, high = jnp.split(jnp.asarray(corners), 2, -1)
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def overlap(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of all pairs; 0 where both are empty.

    Args:
      a: [N, 4], corners.
      b: [M, 4], corners.

    Returns:
      [N, M] in [0, 1].

    Example:
      >>> overlap(jnp.array([[0, 0, 2, 1.]]), jnp.array([[1, 0, 3, 1.], [2, 0, 3, 1]])).round(3).tolist()
      [[0.333..., 0.0]]
    """
    a, b = a[:, None], b[None]
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    both = jnp.prod(jnp.maximum(high - low, 0), -1)
    areas = [jnp.prod(jnp.maximum(box[..., 2:] - box[..., :2], 0), -1) for box in (a, b)]
    union = areas[0] + areas[1] - both
    return both / jnp.where(union > 0, union, 1)


def encode(corners: jax.Array, defaults: jax.Array) -> jax.Array:
    """What a network should say of each default box to mean a box.

        ((x - X) / (.1 W), (y - Y) / (.1 H), log(w / W) / .2, log(h / H) / .2)

    Args:
      corners: [..., D, 4], boxes meant, of a positive area.
      defaults: [D, 4], centres.

    Returns:
      [..., D, 4], offsets.
    """
    middle, extent = jnp.split(to_centres(corners), 2, -1)
    middles, extents = jnp.split(_like(defaults, corners), 2, -1)
    offsets = [(middle - middles) / extents, jnp.log(extent / extents)]
    return jnp.concatenate(offsets, -1) / _like(SCALE, corners)


def decode(offsets: jax.Array, defaults: jax.Array) -> jax.Array:
    """Boxes that a network means: corners [..., D, 4]; the inverse of `encode`."""
    move, stretch = jnp.split(offsets * _like(SCALE, offsets), 2, -1)
    middles, extents = jnp.split(_like(defaults, offsets), 2, -1)
    return to_corners(jnp.concatenate([middles + move * extents, jnp.exp(stretch) * extents], -1))


def match(
    corners: jax.Array, labels: jax.Array, defaults: jax.Array, threshold: float = 0.5
) -> tuple[jax.Array, jax.Array]:
    """Gives each default box the object that it overlaps most, if by more than a threshold.

    Each object also gets the default box that it overlaps most, whatever the threshold; where several
    objects want the same, the last has it.

    Args:
      corners: [N, 4], objects, with rows of label 0 where there are fewer.
      labels: int[N], from 1 on; 0 is background.
      defaults: [D, 4], centres.
      threshold: overlap from which on a default box is the object's.

    Returns:
      Offsets [D, 4], zeros where there is no object, and labels int[D].

    Example:
      >>> defaults = jnp.array([[.25, .25, .5, .5], [.75, .75, .5, .5]])
      >>> offsets, labels = match(jnp.array([[0, 0, .5, .5]]), jnp.array([3]), defaults)
      >>> offsets.tolist(), labels.tolist()
      ([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], [3, 0])
    """
    corners, labels = jnp.asarray(corners), jnp.asarray(labels)
    there = labels > 0
    shared = jnp.where(there[:, None], overlap(corners, to_corners(defaults)), -1.0)
    owner, best = shared.argmax(0), shared.max(0)
    # Objects one after another, for the last to win; those that are not there go out of range.
    wanted = jnp.where(there, shared.argmax(1), defaults.shape[0])
    numbers = jnp.arange(labels.shape[0])
    last = jnp.full(defaults.shape[0], -1).at[wanted].max(numbers, mode="drop")
    owner = jnp.where(last >= 0, last, owner)
    taken = (last >= 0) | (best > threshold)
    of_defaults = jnp.where(taken[:, None], corners[owner], to_corners(defaults))
    offsets = jnp.where(taken[:, None], encode(of_defaults, defaults), 0)
    return offsets, jnp.where(taken, labels[owner], 0)


def _like(constant: jax.Array | np.ndarray, x: jax.Array) -> jax.Array:
    """Leading axes of one, as many as x has more."""
    constant = jnp.asarray(constant)
    return constant.reshape((1,) * (jnp.ndim(x) - constant.ndim) + constant.shape)
