"""Drop the weakest weights, grow as many elsewhere: what SET and RigL have in common."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import selection
from sparsetrain.masks.random_masks import random_start
from sparsetrain.masks.rule import Change, Rule, mask_error


def among(members: jax.Array, scores: jax.Array) -> jax.Array:
    """Scores that rank members by magnitude, and everything else below them.

    Args:
      members: [N] bool.
      scores: [N] float.

    Returns:
      [N] float, to be compared as patterns: above zero for members, by a denormal where their score
      is zero; zero for others.

    Example:
      >>> selection.magnitude_patterns(among(jnp.array([True, False]), jnp.array([0.0, 9.0]))).tolist()
      [1, 0]
    """
    patterns = selection.magnitude_patterns(scores)
    return selection.magnitude_of(jnp.where(members, patterns + 1, 0))


def drop_and_grow(
    masks: list[jax.Array],
    drop_scores: list[jax.Array],
    grow_scores: list[jax.Array],
    counts: jax.Array,
) -> list[jax.Array]:
    """Drops the k_l weakest active weights of each leaf and grows the k_l strongest of the others.

    Args:
      masks: bool arrays.
      drop_scores: float, their shapes; the smallest magnitudes among the active are dropped.
      grow_scores: float, their shapes; the largest magnitudes among the inactive are grown, those
        just dropped included.
      counts: [L] int32 k_l; as far as there are so many.

    Returns:
      New masks with as many ones. Ties: of equal scores the lower index is kept, or grown.

    Reference: Evci et al., RigL (arXiv 1911.11134), its reference code.

    Example:
      >>> mask = jnp.array([0, 1, 0, 1, 0, 1, 1, 0], bool)
      >>> drop = jnp.array([-9.0, 1.0, 4.0, -1.0, 5.0, 8.0, -2.0, 3.0])
      >>> new, = drop_and_grow([mask], [drop + 10.0], [jnp.abs(drop)], jnp.array([2]))
      >>> new.astype(int).tolist()
      [1, 1, 0, 0, 1, 1, 0, 0]
    """
    active = jnp.stack([jnp.sum(mask, dtype=jnp.int32) for mask in masks])
    sizes = jnp.array([mask.size for mask in masks], jnp.int32)
    counts = jnp.minimum(counts, jnp.minimum(active, sizes - active))
    kept = selection.top_k_mask_of_each(
        [among(mask, score) for mask, score in zip(masks, drop_scores, strict=True)],
        active - counts,
    )
    grown = selection.top_k_mask_of_each(
        [among(~mask, score) for mask, score in zip(kept, grow_scores, strict=True)], counts
    )
    return [old | new for old, new in zip(kept, grown, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class DropAndGrowRule(Rule):
    """See `rigl` and `evolutionary`."""

    density: float
    every: int
    until: int
    fraction: float
    growth: str
    dense: str | None
    distribution: Any
    key: Any
    cosine: bool
    takes_step: bool = False
    restart: str = "grown"
    by_sign: bool = False
    # Standard deviation of grown weights' first values; 0 for zeros, `sows` says which.
    spread: float = 0.0
    sows: bool = False

    def start(self, params: Any) -> dict[str, jax.Array]:
        return random_start(params, self.density, self.dense, self.distribution, self.key)

    @property
    def grows_by_gradient(self) -> bool:  # type: ignore[override]
        return self.growth == "gradient"

    def is_due(self, step: jax.Array) -> jax.Array:
        return (step % self.every == 0) & (step < self.until)

    def change(
        self, weights: Any, masks: Any, gradients: Any, step: jax.Array, memory: Any
    ) -> Change:
        del memory
        share = jnp.float32(self.fraction)
        if self.cosine:
            share = share / 2 * (1 + jnp.cos(jnp.pi * step.astype(jnp.float32) / self.until))
        old = list(masks.values())
        active = jnp.stack([jnp.sum(mask, dtype=jnp.float32) for mask in old])
        counts = jnp.floor(share * active).astype(jnp.int32)
        if self.growth == "gradient":
            wanted = [jnp.asarray(gradients[path]) for path in masks]
        else:
            keys = jax.random.split(jax.random.fold_in(self.key, step), len(old))
            wanted = [
                jax.random.uniform(own, mask.shape) for own, mask in zip(keys, old, strict=True)
            ]
        live = {path: jnp.where(mask, weights[path], 0) for path, mask in masks.items()}
        if self.by_sign:
            found = _drop_by_sign(list(live.values()), old, wanted, share)
        else:
            found = drop_and_grow(old, list(live.values()), wanted, counts)
        new = dict(zip(masks, found, strict=True))
        # A weight that is dropped and grown again keeps its value: it is live before and after.
        if not self.sows:
            return Change(new, mask_error(live, new))
        drawn = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(self.key, step), 1), len(old)
        )
        values = {
            path: self.spread * jax.random.normal(own, mask.shape)
            for own, (path, mask) in zip(drawn, new.items(), strict=True)
        }
        return Change(new, mask_error(live, new), weights=values)


def _drop_by_sign(
    weights: list[jax.Array], masks: list[jax.Array], wanted: list[jax.Array], share: jax.Array
) -> list[jax.Array]:
    """Drops a share of the smallest positive and of the largest negative weights, and grows as many."""
    signs = [mask & (w >= 0) for mask, w in zip(masks, weights, strict=True)]
    signs += [mask & (w < 0) for mask, w in zip(masks, weights, strict=True)]
    sizes = jnp.stack([jnp.sum(each, dtype=jnp.int32) for each in signs])
    stay = sizes - jnp.floor(share * sizes.astype(jnp.float32)).astype(jnp.int32)
    scores = [among(each, w) for each, w in zip(signs, [*weights, *weights], strict=True)]
    halves = selection.top_k_mask_of_each(scores, stay)
    kept = [a | b for a, b in zip(halves[: len(masks)], halves[len(masks) :], strict=True)]
    gone = [jnp.sum(a & ~b, dtype=jnp.int32) for a, b in zip(masks, kept, strict=True)]
    # Not where something was dropped just now, unless there is no other place.
    draws = [
        among(~b, g + (~a).astype(g.dtype)) for a, b, g in zip(masks, kept, wanted, strict=True)
    ]
    grown = selection.top_k_mask_of_each(draws, jnp.stack(gone))
    return [a | b for a, b in zip(kept, grown, strict=True)]
