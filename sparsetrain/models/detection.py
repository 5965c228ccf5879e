"""From a detector's outputs to its loss, and to detections."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain.models.boxes import decode, overlap


def multibox_loss(
    offsets: jax.Array,
    logits: jax.Array,
    true_offsets: jax.Array,
    true_labels: jax.Array,
    negatives: int = 3,
) -> jax.Array:
    """Loss of boxes that have an object, and of as many times worst backgrounds.

        mean_b of 1 / P_b (sum_{objects} [huber(offsets) + cross entropy] + sum_{hardest 3 P_b} cross entropy)

    Args:
      offsets: [B, D, 4].
      logits: [B, D, C], class 0 is background.
      true_offsets: [B, D, 4], of `boxes.match`.
      true_labels: int[B, D], 0 where there is no object.
      negatives: backgrounds for each object: the ones with the largest loss. Ties go to the lower index.

    Returns:
      Scalar; an image without objects adds 0, as in the reference.

    Reference: Liu et al., SSD: Single Shot MultiBox Detector (arXiv 1512.02325), section 2.2.

    Example:
      >>> logits = jnp.log(jnp.array([[[.5, .5], [.25, .75], [.75, .25]]]))
      >>> zeros = jnp.zeros([1, 3, 4])
      >>> float(jnp.exp(-multibox_loss(zeros, logits, zeros, jnp.array([[1, 0, 0]]), negatives=1)))
      0.125
    """
    objects = true_labels > 0
    found = objects.sum(1)
    apart = optax.huber_loss(offsets, true_offsets).sum(-1)
    wrong = optax.softmax_cross_entropy_with_integer_labels(logits, true_labels)
    # Rank of each background by its loss; which ones are taken has no gradient.
    order = jnp.argsort(-lax.stop_gradient(jnp.where(objects, 0, wrong)), axis=1, stable=True)
    rank = jnp.argsort(order, axis=1)
    hard = ~objects & (rank < negatives * found[:, None])
    total = jnp.where(objects, apart + wrong, 0).sum(1) + jnp.where(hard, wrong, 0).sum(1)
    return jnp.where(found > 0, total / jnp.maximum(found, 1), 0).mean()


def suppress(corners: jax.Array, scores: jax.Array, threshold: float = 0.45) -> jax.Array:
    """Which boxes remain when none may overlap a better one that remains.

    Args:
      corners: [N, 4].
      scores: [N], descending.
      threshold: overlap from which on the worse of two goes.

    Returns:
      bool[N]; a score of 0 or less never remains.

    Example:
      >>> boxes = jnp.array([[0, 0, 1, 1], [0, 0, 1, .9], [0, 0, 1, .45]])
      >>> suppress(boxes, jnp.array([.9, .8, .7]), .5).tolist()       # the second was gone before the third
      [True, False, True]
    """
    too_near = overlap(corners, corners) >= threshold
    numbers = jnp.arange(corners.shape[0])

    def keep(i: jax.Array, remain: jax.Array) -> jax.Array:
        hit = (remain & too_near[i] & (numbers < i)).any()
        return remain.at[i].set(remain[i] & ~hit)

    return lax.fori_loop(0, corners.shape[0], keep, scores > 0)


class Detections(NamedTuple):
    """Of one image or, with a leading axis, of several; best first, scores 0 where there are fewer."""

    corners: jax.Array  # float32[L, 4], (left, top, right, bottom)
    labels: jax.Array  # int32[L], from 1 on; 0 where there is none
    scores: jax.Array  # float32[L]


def detect(
    offsets: jax.Array,
    logits: jax.Array,
    defaults: jax.Array,
    *,
    score: float = 0.05,
    threshold: float = 0.45,
    candidates: int = 200,
    limit: int = 200,
) -> Detections:
    """Detections of one image: each class on its own, then the best of all. Use `jax.vmap` for more.

    Args:
      offsets: [D, 4].
      logits: [D, C], class 0 is background.
      defaults: [D, 4], centres.
      score: probability that a box must exceed.
      threshold: overlap from which on the worse of two boxes of a class goes.
      candidates: boxes of a class that are looked at, the most probable.
      limit: L, boxes returned.

    Returns:
      L detections.

    Raises:
      ValueError: a limit beyond what classes and candidates can give.

    Example:
      >>> defaults = jnp.array([[.25, .25, .5, .5], [.3, .25, .5, .5], [.75, .75, .5, .5]])
      >>> logits = jnp.log(jnp.array([[.2, .8], [.1, .9], [.4, .6]]))
      >>> found = detect(jnp.zeros([3, 4]), logits, defaults, candidates=3, limit=3)
      >>> found.labels.tolist(), (100 * found.scores).round().tolist()
      ([1, 1, 0], [90.0, 60.0, 0.0])
    """
    classes = logits.shape[-1]
    candidates = min(candidates, offsets.shape[0])
    if not 1 <= limit <= (classes - 1) * candidates:
        raise ValueError(
            f"limit={limit}: {classes - 1} classes of {candidates} candidates give at most their product"
        )
    corners = decode(offsets, defaults)
    probabilities = jax.nn.softmax(logits)[:, 1:].T

    def of_class(probability: jax.Array) -> tuple[jax.Array, jax.Array]:
        best, rows = lax.top_k(jnp.where(probability > score, probability, 0), candidates)
        return jnp.where(suppress(corners[rows], best, threshold), best, 0), rows

    scores, rows = jax.vmap(of_class)(probabilities)
    best, places = lax.top_k(scores.reshape(-1), limit)
    labels = jnp.where(best > 0, 1 + places // candidates, 0)
    return Detections(corners[rows.reshape(-1)[places]], labels, best)
