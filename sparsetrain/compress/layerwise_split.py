"""Entries shared out among layers: whole numbers with a given sum, by largest remainder."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def split(
    sizes: Sequence[int], k: int, k_min: int = 0, initial: Sequence[float] | None = None
) -> list[int]:
    """k over the layers by largest remainder, between k_min (or its size) and its size for each.

        k_l near k * w_l / sum(w),    w_l = N_l, or initial_l * N_l

    Args:
      sizes: N_l.
      k: in all, at most sum(N_l).
      k_min: least entries of a layer.
      initial: densities of the layers, whose proportions count; None for equal ones.

    Returns:
      k_l; of equal remainders the earlier is rounded up.

    Raises:
      ValueError: k_min asks for more than k, or `initial` does not fit the layers.

    Example:
      >>> split([10, 30, 0], 5), split([10, 30, 0], 5, initial=[0.5, 0.0, 0.0])
      ([1, 4, 0], [5, 0, 0])
    """
    least = [min(k_min, size) for size in sizes]
    if sum(least) > k:
        raise ValueError(
            f"k_min={k_min}: {len(sizes)} layers need {sum(least)} entries and the density gives {k}; "
            "lower k_min or raise the density"
        )
    if initial is not None and len(initial) != len(sizes):
        raise ValueError(
            f"initial has {len(initial)} densities for {len(sizes)} leaves: give one for each, "
            "in the order of jax.tree.leaves"
        )
    if not k:
        return least
    shares = [1.0] * len(sizes) if initial is None else list(initial)
    # Layers of density 0 come last, but they do come where the others are full.
    weights = [size * max(share, 1e-12) for size, share in zip(sizes, shares, strict=True)]

    def bounded(factor: float) -> list[float]:
        wished = [k * weight * factor / sum(weights) for weight in weights]
        return [min(n, max(a, w)) for n, a, w in zip(sizes, least, wished, strict=True)]

    exact = bounded(1.0)
    if abs(sum(exact) - k) > 1e-6:  # Bounds were met: the others must make up for it.
        lower, upper = 0.0, 1e15
        for _ in range(200):
            middle = 0.5 * (lower + upper)
            lower, upper = (middle, upper) if sum(bounded(middle)) <= k else (lower, middle)
        exact = bounded(lower)
    counts = [int(share) for share in exact]
    by_rest = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    open_ = [i for i in by_rest if counts[i] < sizes[i]]
    for i in open_[: k - sum(counts)]:
        counts[i] += 1
    return counts


def largest_remainder(total: jax.Array, parts: int, whole: int | jax.Array) -> jax.Array:
    """Integers near total / parts that sum to `whole`, the sum of the exact quotients.

    Args:
      total: [L] int32; sums to parts * whole.
      parts: W.
      whole: K.

    Returns:
      [L] int32; the largest remainders are rounded up, the earlier of equals first.

    Example:
      >>> largest_remainder(jnp.array([3, 5, 4]), 2, 6).tolist()
      [2, 2, 2]
    """
    base, rest = total // parts, total % parts
    order = jnp.argsort(-rest, stable=True)
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
    return base + (rank < whole - jnp.sum(base)).astype(base.dtype)
