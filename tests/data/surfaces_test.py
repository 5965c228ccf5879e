import numpy as np
import pytest

from sparsetrain.data import surfaces
from sparsetrain.data.surfaces import Tube

X, Y, Z = np.eye(3)
TILT = (X + 2 * Y - Z) / np.sqrt(6)

# Closed surfaces and their volumes.
SOLIDS = {
    "box": (surfaces.box([1, 2, 3], [1, 2, 0.5]), 1.0),
    "block": (surfaces.block([1, 0, 0], X + Y, 2 * Y, Z - X), 2.0),
    "block, left-handed": (surfaces.block([1, 0, 0], 2 * Y, X + Y, Z - X), 2.0),
    "cylinder": (surfaces.closed([0, 1, 0], TILT, 2.0, 0.5, 0.5), np.pi / 2),
    "cone": (surfaces.closed([0, 1, 0], Y, 3.0, 1.0, 0.0), np.pi),
    "cut cone": (surfaces.closed([0, 1, 0], Z, 3.0, 1.0, 2.0), 7 * np.pi),
    "ring": ([Tube(np.array([1.0, 0, 0]), TILT, 2.0, 0.5)], np.pi**2),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_by_the_divergence_theorem(name):
    # Even points with outward normals: the mean normal is 0, and x . n / 3 adds up to the volume.
    faces, volume = SOLIDS[name]
    area = sum(face.area for face in faces)
    points, normals, which = surfaces.draw(faces, np.random.default_rng(0), 40_000)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(normals.mean(axis=0), 0, atol=0.02)
    flow = np.sum((points - points.mean(axis=0)) * normals, axis=1)
    assert area * flow.mean() / 3 == pytest.approx(volume, rel=0.02)
    shares = np.bincount(which, minlength=len(faces)) / len(which)
    np.testing.assert_allclose(shares, [face.area / area for face in faces], atol=0.01)


def test_a_part_of_a_ring_stays_in_its_angles():
    half = Tube(np.zeros(3), Z, 2.0, 0.1, -np.pi / 2, np.pi / 2)
    points, _ = half.draw(np.random.default_rng(0), 1000)
    assert points[:, 0].min() >= 0 and points[:, 0].max() > 2
    distance = np.hypot(np.hypot(points[:, 0], points[:, 1]) - 2, points[:, 2])
    np.testing.assert_allclose(distance, 0.1, atol=1e-12)
    assert 2 * half.area == pytest.approx(Tube(np.zeros(3), Z, 2.0, 0.1).area)
