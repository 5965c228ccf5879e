"""Geometry of point clouds: which points to keep, who is near them, and how to come back."""

import jax
import jax.numpy as jnp
from jax import lax


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """[N, 3], [M, 3] -> [N, M], of all pairs."""
    return jnp.sum((a[:, None] - b[None]) ** 2, -1)


def farthest_points(points: jax.Array, count: int) -> jax.Array:
    """Spreads points evenly: each next one is the farthest from all before.

        i_0 = 0,    i_{t+1} = argmax_i min_{s <= t} |p_i - p_{i_s}|

    Args:
      points: [N, 3].
      count: M, at most N.

    Returns:
      int32[M], indices; ties go to the lower one.

    Raises:
      ValueError: more points than there are.

    Reference: Qi et al., PointNet++ (arXiv 1706.02413), section 3.2.

    Example:
      >>> farthest_points(jnp.array([[0., 0, 0], [1, 0, 0], [5, 0, 0], [3, 0, 0]]), 3).tolist()
      [0, 2, 3]
    """
    if not 1 <= count <= points.shape[0]:
        raise ValueError(f"count={count}: must lie between 1 and the {points.shape[0]} points")
    points = jnp.asarray(points)

    def add(t: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, away = carry
        away = jnp.minimum(away, jnp.sum((points - points[chosen[t - 1]][None]) ** 2, -1))
        return chosen.at[t].set(away.argmax()), away

    away = jnp.full(points.shape[0], jnp.inf, points.dtype)
    return lax.fori_loop(1, count, add, (jnp.zeros(count, jnp.int32), away))[0]


def ball_query(points: jax.Array, centres: jax.Array, radius: float, samples: int) -> jax.Array:
    """The first points within a radius of each centre.

    Args:
      points: [N, 3].
      centres: [M, 3].
      radius: the distance still counts as within.
      samples: S, points of each centre. Where there are fewer, the first stands in for the rest, and
        where there is none, the nearest.

    Returns:
      int32[M, S], indices into points, ascending before the stand-ins.

    Reference: Qi et al., PointNet++ (arXiv 1706.02413), section 3.2.

    Example:
      >>> points = jnp.array([[0., 0, 0], [1, 0, 0], [5, 0, 0]])
      >>> ball_query(points, jnp.array([[0., 0, 0], [9, 0, 0]]), 2.0, 3).tolist()
      [[0, 1, 0], [2, 2, 2]]
    """
    total = points.shape[0]
    distances = squared_distances(centres, points)
    indices = jnp.where(distances <= radius**2, jnp.arange(total)[None], total)
    # The smallest indices are the largest of their negatives.
    found = -lax.top_k(-indices, min(samples, total))[0]
    first = found[:, :1]
    first = jnp.where(first == total, distances.argmin(1)[:, None], first)
    found = jnp.where(found == total, first, found)
    return jnp.concatenate([found, jnp.repeat(first, samples - found.shape[1], 1)], 1)


def interpolate(points: jax.Array, centres: jax.Array, features: jax.Array) -> jax.Array:
    """Features between centres, from the three nearest.

        f(p) = sum_j w_j f_j / sum_j w_j,    w_j = 1 / |p - c_j|^2

    Args:
      points: [N, 3].
      centres: [M, 3]; fewer than three are all used.
      features: [M, C].

    Returns:
      [N, C].

    Reference: Qi et al., PointNet++ (arXiv 1706.02413), section 3.4.

    Example:
      >>> centres, features = jnp.array([[0., 0, 0], [3, 0, 0]]), jnp.array([[1.], [11.]])
      >>> interpolate(jnp.array([[1., 0, 0]]), centres, features).round(4).tolist()
      [[3.0]]
    """
    nearest, indices = lax.top_k(-squared_distances(points, centres), min(3, centres.shape[0]))
    # A point that is a centre has no distance: its own feature then outweighs the others.
    weights = 1 / (1e-8 - nearest)
    weights = weights / weights.sum(-1, keepdims=True)
    return jnp.einsum("nk,nkc->nc", weights, jnp.asarray(features)[indices])
