import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import selection
from sparsetrain.analysis import (
    contraction,
    convex_smooth_angle,
    estimated_descent,
    step_size,
    steps_to_reach,
)

SIZE = 24


def quadratic(condition: float, seed: int):
    """Hessian with eigenvalues from 1 to `condition` in a random basis, optimum, start."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    hessian = basis @ np.diag(np.linspace(1.0, condition, SIZE)) @ basis.T
    optimum = rng.normal(size=SIZE)
    start = optimum + 5 * rng.normal(size=SIZE)
    return jnp.float32(hessian), jnp.float32(optimum), jnp.float32(start)


def top_k(k: int):
    return lambda g: jnp.where(selection.top_k_mask(g, k), g, 0)


def descent(condition: float, k: int, steps: int = 40, seed: int = 0):
    hessian, optimum, start = quadratic(condition, seed)
    return estimated_descent(
        lambda w: hessian @ (w - optimum), top_k(k), start, optimum, 1.0, condition, steps
    )


@pytest.mark.parametrize(("mu", "smooth"), [(1.0, 4.0), (0.3, 7.0), (2.0, 2.0), (1e-9, 1.0)])
def test_convex_smooth_angle_is_the_arccos(mu, smooth):
    assert convex_smooth_angle(mu, smooth) == pytest.approx(math.acos(math.sqrt(mu / smooth)))


@pytest.mark.parametrize("condition", [1.5, 10.0, 300.0])
def test_no_gradient_of_a_quadratic_leaves_the_convex_smooth_angle(condition):
    rng = np.random.default_rng(0)
    curvature = np.linspace(1.0, condition, SIZE)
    away = rng.normal(size=(2000, SIZE)) * 10 ** rng.uniform(-2, 2, size=(2000, SIZE))
    # The worst direction of a quadratic (Kantorovich) has only the extreme eigenvectors.
    away[0] = 0
    away[0, 0], away[0, -1] = np.sqrt(condition), 1.0
    gradient = away * curvature
    cosines = (away * gradient).sum(1)
    cosines /= np.linalg.norm(away, axis=1) * np.linalg.norm(gradient, axis=1)
    assert np.arccos(cosines.min()) <= convex_smooth_angle(1.0, condition)
    # The tighter angle that the docstring names is met exactly, so that claim is true as well.
    tight = math.acos(2 * math.sqrt(condition) / (1 + condition))
    assert np.arccos(cosines.min()) == pytest.approx(tight, rel=1e-6)


@pytest.mark.parametrize("values", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (1.0, math.inf)])
def test_curvatures_that_no_loss_has_are_refused(values):
    with pytest.raises(ValueError, match="0 < convexity <= smoothness"):
        convex_smooth_angle(*values)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("condition", "k"), [(1.1, SIZE), (1.1, 18), (1.5, 20), (2.0, 22)])
def test_theorem_1_holds_at_every_step_with_top_k_gradients(condition, k, seed):
    run = descent(condition, k, steps=12, seed=seed)
    assert run.distance.shape == (13,)
    # Above the float32 resolution of the distance itself, which is about 1e-6 of |w*|.
    counted = np.asarray(run.applies) & (np.asarray(run.distance[1:]) > 1e-4)
    assert counted.sum() >= 4
    after, bound = np.asarray(run.distance[1:]), np.asarray(run.bound)
    assert np.all(after[counted] <= bound[counted] * (1 + 1e-4))


def test_the_steps_are_those_of_a_float64_port():
    hessian, optimum, start = (np.asarray(x, np.float64) for x in quadratic(1.5, 0))
    run = descent(1.5, 20, steps=5)
    w, phi = start.copy(), math.acos(math.sqrt(1 / 1.5))
    for number in range(5):
        true = hessian @ (w - optimum)
        g = true.copy()
        g[np.argsort(-np.abs(true), kind="stable")[20:]] = 0
        delta = math.acos(g @ true / np.linalg.norm(g) / np.linalg.norm(true))
        theta = delta + phi
        distance = np.linalg.norm(w - optimum)
        np.testing.assert_allclose(run.distance[number], distance, rtol=1e-4)
        np.testing.assert_allclose(run.theta[number], theta, rtol=1e-4)
        w = w - math.cos(theta) * distance / np.linalg.norm(g) * g
    np.testing.assert_allclose(run.weights, w, rtol=1e-4, atol=1e-4)


def test_the_promised_number_of_steps_suffices():
    run = descent(1.1, 20, steps=60)
    distance, applies = np.asarray(run.distance), np.asarray(run.applies)
    error = 1e-2 * distance[0]
    reached = int(np.argmax(distance <= error))
    assert applies[:reached].all()
    theta = float(np.max(run.theta[:reached]))
    assert 0 < reached <= math.ceil(steps_to_reach(error, float(distance[0]), theta))


def test_a_step_outside_the_theorem_is_not_taken():
    run = descent(50.0, 1, steps=3)
    assert not np.any(run.applies)
    np.testing.assert_array_equal(run.distance, run.distance[0])


def test_at_the_optimum_nothing_moves():
    run = estimated_descent(lambda w: w, top_k(1), jnp.zeros(4), jnp.zeros(4), 1.0, 1.0, steps=2)
    assert np.isnan(run.delta).all()
    np.testing.assert_array_equal(run.weights, 0.0)


def test_steps_to_reach_solves_its_equation():
    theta = 1.2
    steps = steps_to_reach(1e-3, 5.0, theta)
    assert 5.0 * contraction(theta) ** steps == pytest.approx(1e-3)
    assert steps_to_reach(2.0, 1.0, theta) == 0.0
    assert steps_to_reach(0.1, 1.0, 0.0) == 1.0


def test_step_size_leaves_the_distance_that_the_proof_says():
    # A gradient at exactly theta to the way back: the new distance is sin(theta) times the old one.
    theta, distance = 0.7, 3.0
    g = 2.5 * np.array([math.cos(theta), math.sin(theta)])
    after = np.array([distance, 0.0]) - float(step_size(theta, distance, 2.5)) * g
    assert np.linalg.norm(after) == pytest.approx(distance * contraction(theta), rel=1e-6)
    assert jax.jit(step_size)(theta, distance, 2.5).shape == ()


@pytest.mark.parametrize("theta", [math.pi / 2, 2.0, -0.1, math.nan])
def test_from_a_right_angle_on_nothing_is_promised(theta):
    with pytest.raises(ValueError, match="promises nothing"):
        contraction(theta)
    with pytest.raises(ValueError, match="promises nothing"):
        steps_to_reach(0.1, 1.0, theta)


@pytest.mark.parametrize(("error", "distance"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])
def test_errors_that_cannot_be_reached_are_refused(error, distance):
    with pytest.raises(ValueError, match="error must be positive"):
        steps_to_reach(error, distance, 1.0)
