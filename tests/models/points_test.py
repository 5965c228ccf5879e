import jax
import numpy as np
import pytest

from sparsetrain.models import points

CLOUD = np.asarray(jax.random.normal(jax.random.key(0), (40, 3)))


def distance(a, b):
    return float(np.sqrt(((a - b) ** 2).sum()))


def test_farthest_points_one_after_another():
    chosen = [0]
    while len(chosen) < 12:
        away = [min(distance(p, CLOUD[i]) for i in chosen) for p in CLOUD]
        chosen.append(int(np.argmax(away)))
    assert points.farthest_points(CLOUD, 12).tolist() == chosen
    assert sorted(points.farthest_points(CLOUD, 40).tolist()) == list(range(40))
    with pytest.raises(ValueError, match="count=41"):
        points.farthest_points(CLOUD, 41)


@pytest.mark.parametrize(("radius", "samples"), [(1.0, 5), (0.3, 4), (9.0, 50)])
def test_balls_point_by_point(radius, samples):
    centres = np.concatenate([CLOUD[::5], [[5.0, 5, 5]]])
    found = points.ball_query(CLOUD, centres, radius, samples)
    for row, centre in enumerate(centres):
        away = [distance(p, centre) for p in CLOUD]
        near = [i for i in range(40) if away[i] <= radius][:samples] or [int(np.argmin(away))]
        assert found[row].tolist() == near + [near[0]] * (samples - len(near))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_interpolation_point_by_point(count):
    centres, features = CLOUD[:count], np.asarray(jax.random.normal(jax.random.key(1), (count, 2)))
    found = points.interpolate(CLOUD, centres, features)
    for row in range(count, 40):
        away = np.array([distance(CLOUD[row], c) for c in centres])
        near = np.argsort(away)[:3]
        weights = 1 / away[near] ** 2
        wanted = (weights[:, None] * features[near]).sum(0) / weights.sum()
        np.testing.assert_allclose(found[row], wanted, rtol=1e-3, atol=1e-5)
    # A centre keeps what it has.
    np.testing.assert_allclose(found[:count], features, rtol=1e-4, atol=1e-5)
