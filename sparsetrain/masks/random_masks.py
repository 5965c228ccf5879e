"""Masks that are drawn uniformly: exactly so many units of every leaf."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import selection
from sparsetrain.masks import distribution as distributions
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.structure import NOfM, Unstructured, keep_largest


def random_masks(
    weights: Mapping[str, jax.Array], structure: Any, counts: Sequence[int], key: Any
) -> dict[str, jax.Array]:
    """Draws a mask for every leaf.

    Args:
      weights: path -> leaf, for its shape.
      structure: of the masks.
      counts: [L] units kept of each.
      key: typed JAX key; every leaf draws for itself.

    Returns:
      Path -> bool.

    Example:
      >>> from sparsetrain.masks.structure import Unstructured
      >>> found = random_masks({"w": jnp.zeros((8, 8))}, Unstructured(), [16], jax.random.key(0))
      >>> int(found["w"].sum())
      16
    """
    keys = jax.random.split(key, len(weights))
    if isinstance(structure, NOfM):
        drawn = {
            path: jax.random.uniform(own, leaf.shape)
            for own, (path, leaf) in zip(keys, weights.items(), strict=True)
        }
        return keep_largest(drawn, structure, counts)
    draws = [
        jax.random.uniform(own, (structure.units(leaf.shape),))
        for own, leaf in zip(keys, weights.values(), strict=True)
    ]
    kept = selection.top_k_mask_of_each(draws, jnp.array(counts, jnp.int32))
    return {
        path: structure.spread(mask, leaf.shape)
        for (path, leaf), mask in zip(weights.items(), kept, strict=True)
    }


def random_start(
    params: Any, density: float, dense: str | None, distribution: Any, key: Any
) -> dict[str, jax.Array]:
    """Draws the first masks of single weights.

    Args:
      params: tree of parameters.
      density: fraction of weights kept.
      dense: expression of paths that are never masked.
      distribution: "uniform", "erk", or path expression -> density.
      key: typed JAX key.

    Returns:
      Path -> bool, of what can be pruned.

    Example:
      >>> found = random_start({"w": jnp.ones((4, 4)), "b": jnp.ones(4)}, 0.25, None, "uniform", jax.random.key(0))
      >>> {path: int(mask.sum()) for path, mask in found.items()}
      {'w': 4}
    """
    leaves = leaves_by_path(params)
    weights = {path: leaves[path] for path in prunable(params, dense)}
    shapes = {path: leaf.shape for path, leaf in weights.items()}
    counts = distributions.counts(shapes, density, distribution, Unstructured())
    return random_masks(weights, Unstructured(), counts, key)
