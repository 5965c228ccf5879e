"""Convex-smooth angle and the linear rate of estimated gradient descent: Theorem 1 of MSBP.

Sparse backpropagation is gradient descent with an estimate g of the true gradient. Two angles
decide whether it converges: delta, between the estimate and the true gradient, and phi, between the
true gradient and the way to the optimum, which depends on the loss alone. While their sum stays
below a right angle, every step can come closer by a constant factor.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.analysis.angle import angle


def convex_smooth_angle(convexity: float, smoothness: float) -> float:
    """Largest angle between a convex smooth loss's gradient and the way from its optimum.

        phi = arccos sqrt(mu / L)

    Args:
      convexity: mu > 0, the smallest curvature (the loss is mu-strongly convex).
      smoothness: L >= mu, the largest curvature (the loss is L-smooth).

    Returns:
      phi in radians, in [0, pi/2).

    Raises:
      ValueError: not 0 < mu <= L < infinity.

    Differs from the paper:
      1. mu = L is allowed and gives 0.
      2. The bound is not tight: arccos(2 sqrt(mu L) / (mu + L)) is smaller and holds as well (our
         remark).

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 3.

    Example:
      >>> round(convex_smooth_angle(1.0, 4.0), 4)                               # pi / 3
      1.0472
    """
    if not 0.0 < convexity <= smoothness < math.inf:
        raise ValueError(
            f"convexity={convexity}, smoothness={smoothness}: must satisfy 0 < convexity <= smoothness < inf; "
            "for a quadratic they are the smallest and largest eigenvalue of its Hessian"
        )
    return math.atan2(math.sqrt(smoothness - convexity), math.sqrt(convexity))


def contraction(theta: float) -> float:
    """Factor by which a step of Theorem 1 comes closer to the optimum.

        |w_{t+1} - w*| <= sin(theta) |w_t - w*|      if  delta(w_t) + phi <= theta

    Args:
      theta: radians, 0 <= theta < pi/2.

    Returns:
      sin(theta), in [0, 1).

    Raises:
      ValueError: theta outside [0, pi/2): nothing is promised there.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), Theorem 1.

    Example:
      >>> round(contraction(0.5236), 4)
      0.5
    """
    if not 0.0 <= theta < math.pi / 2:
        raise ValueError(
            f"theta={theta}: must lie in [0, pi/2) radians; from a right angle on Theorem 1 promises nothing, "
            "so keep more entries (smaller delta)"
        )
    return math.sin(theta)


def step_size(
    theta: jax.typing.ArrayLike, distance: jax.typing.ArrayLike, gradient_norm: jax.typing.ArrayLike
) -> jax.Array:
    """Step size with which the proof of Theorem 1 reaches its rate.

        eta_t = cos(theta) |w_t - w*| / |g_t|

    It needs the distance to the optimum, so it serves to study the theorem, not to train.

    Args:
      theta: radians, scalar.
      distance: |w_t - w*|, scalar.
      gradient_norm: |g_t| > 0, norm of the estimate, scalar.

    Returns:
      eta_t, scalar.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), Theorem 1.

    Example:
      >>> float(step_size(0.0, 3.0, 2.0))
      1.5
    """
    return jnp.cos(theta) * jnp.asarray(distance) / jnp.asarray(gradient_norm)


def steps_to_reach(error: float, distance: float, theta: float) -> float:
    """Number of steps after which Theorem 1 promises a given error.

        T(eps) = log(|w_0 - w*| / eps) / log(1 / sin(theta))

    Args:
      error: eps > 0, distance to the optimum that is wanted.
      distance: |w_0 - w*| >= 0, distance at the start.
      theta: radians, 0 <= theta < pi/2.

    Returns:
      T(eps), a real number: every whole T >= T(eps) suffices. 0 where the start is close enough.

    Raises:
      ValueError: error <= 0, distance < 0, or theta outside [0, pi/2).

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), Theorem 1.

    Example:
      >>> round(steps_to_reach(error=0.25, distance=1.0, theta=0.5235987755982989), 6)
      2.0
    """
    rate = contraction(theta)
    if not (error > 0.0 and distance >= 0.0):
        raise ValueError(
            f"error={error}, distance={distance}: error must be positive and distance not negative"
        )
    if distance <= error:
        return 0.0
    return 1.0 if rate == 0.0 else math.log(distance / error) / -math.log(rate)


class Descent(NamedTuple):
    """What `estimated_descent` saw, step by step.

    Attributes:
      distance: [T + 1], |w_t - w*|, the start first.
      delta: [T] radians, angle between the estimate and the true gradient; NaN where one of them
        was zero.
      theta: [T] radians, delta + phi; Theorem 1 speaks of the steps with theta < pi/2 only.
      weights: w_T, [N].
    """

    distance: jax.Array
    delta: jax.Array
    theta: jax.Array
    weights: jax.Array

    @property
    def applies(self) -> jax.Array:
        """[T] bool, the steps about which Theorem 1 says something."""
        return self.theta < jnp.pi / 2

    @property
    def bound(self) -> jax.Array:
        """[T], sin(theta) |w_t - w*|; `distance[1:]` does not exceed it where the theorem applies."""
        return jnp.sin(self.theta) * self.distance[:-1]


def estimated_descent(
    gradient: Callable[[jax.Array], jax.Array],
    estimate: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    optimum: jax.Array,
    convexity: float,
    smoothness: float,
    steps: int,
) -> Descent:
    """Estimated gradient descent with the steps of Theorem 1, on a loss of known optimum.

        g_t = S(grad l(w_t)),    theta_t = delta(w_t) + phi
        eta_t = cos(theta_t) |w_t - w*| / |g_t|,    w_{t+1} = w_t - eta_t g_t

    A step to which the theorem does not apply (theta_t >= pi/2, or a zero gradient) leaves w alone.

    Args:
      gradient: w [N] -> true gradient [N].
      estimate: true gradient [N] -> estimate [N], such as a top-k selection.
      start: w_0, [N] float.
      optimum: w*, [N] float.
      convexity: mu of the loss.
      smoothness: L of the loss.
      steps: T.

    Returns:
      Distances, angles and the theorem's bound.

    Raises:
      ValueError: mu and L that no loss has.

    Differs from the paper:
      1. theta is each step's own angle, not one bound for all steps, so the bound checked here is
         the tighter one.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), Theorem 1.

    Example:
      >>> import jax.numpy as jnp
      >>> curvature = jnp.array([1.0, 1.5])
      >>> run = estimated_descent(lambda w: curvature * w, lambda g: g.at[1].set(0),
      ...                         jnp.array([3.0, 1.0]), jnp.zeros(2), 1.0, 1.5, steps=1)
      >>> bool(run.applies[0]), bool(run.distance[1] <= run.bound[0])
      (True, True)
    """
    phi = convex_smooth_angle(convexity, smoothness)

    def step(weights: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        true = gradient(weights)
        g = estimate(true)
        delta = angle(g, true)
        theta = delta + phi
        distance = jnp.linalg.norm(weights - optimum)
        moved = weights - step_size(theta, distance, jnp.linalg.norm(g)).astype(weights.dtype) * g
        # A NaN theta compares as false, so a zero gradient stays where it is.
        after = jnp.where(theta < jnp.pi / 2, moved, weights)
        return after, (jnp.linalg.norm(after - optimum), delta, theta)

    weights, (distance, delta, theta) = lax.scan(step, start, length=steps)
    first = jnp.linalg.norm(start - optimum)[None]
    return Descent(jnp.concatenate([first, distance]), delta, theta, weights)
