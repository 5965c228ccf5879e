"""Masks that are drawn uniformly: exactly so many units of every leaf."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import selection
from sparsetrain.masks.structure import NOfM, keep_largest


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
