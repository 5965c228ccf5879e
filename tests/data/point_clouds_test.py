import jax
import numpy as np
import pytest

from sparsetrain.data import point_clouds
from sparsetrain.data.point_clouds import FIRST, KINDS, PARTS

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def clouds():
    return point_clouds.sample(KEY, 50, points=1024)


def test_every_part_is_there_and_of_its_kind(clouds):
    assert np.bincount(clouds.kinds).tolist() == [10] * len(KINDS)
    assert FIRST[-1] == 14 == sum(map(len, PARTS.values()))
    for kind, parts in zip(clouds.kinds, clouds.parts, strict=True):
        assert sorted(set(parts.tolist())) == list(range(FIRST[kind], FIRST[kind + 1]))
        # No part is so small that a network sees next to nothing of it.
        assert np.bincount(parts)[FIRST[kind] :].min() >= 10


def test_points_fill_the_unit_ball_and_normals_have_length_one(clouds):
    assert clouds.points.dtype == clouds.normals.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(clouds.points, axis=-1).max(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(clouds.points.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(clouds.normals, axis=-1), 1, rtol=1e-5)


def test_a_shape_is_a_function_of_key_and_number(clouds):
    some = point_clouds.sample(KEY, 3, points=1024, first=7)
    for ours, all_of_them in zip(some, clouds, strict=True):
        np.testing.assert_array_equal(ours, all_of_them[7:10])
    other = point_clouds.sample(jax.random.key(1), 3, points=1024, first=7)
    assert not np.array_equal(other.points, some.points)
    # Two of a kind differ in their proportions.
    assert not np.allclose(np.abs(clouds.points[0]).max(0), np.abs(clouds.points[5]).max(0), 0.01)


def part(clouds, row, name):
    kind = clouds.kinds[row]
    return clouds.points[row][clouds.parts[row] == FIRST[kind] + PARTS[KINDS[kind]].index(name)]


def test_parts_are_where_they_belong(clouds):
    for row in range(len(clouds.kinds)):
        match KINDS[clouds.kinds[row]]:
            case "table":
                assert part(clouds, row, "legs")[:, 2].max() <= part(clouds, row, "top")[:, 2].min()
            case "chair":
                seat = part(clouds, row, "seat")[:, 2]
                assert part(clouds, row, "legs")[:, 2].max() <= seat.min() + 1e-6
                assert part(clouds, row, "back")[:, 2].min() >= seat.max() - 1e-6
            case "lamp":
                assert (
                    part(clouds, row, "base")[:, 2].max() < part(clouds, row, "shade")[:, 2].min()
                )
            case "mug":
                body, handle = part(clouds, row, "body"), part(clouds, row, "handle")
                assert handle[:, 0].max() > body[:, 0].max()
                assert np.abs(handle[:, 1]).max() < 0.2 < np.abs(body[:, 1]).max()
            case "plane":
                wings, body = part(clouds, row, "wings"), part(clouds, row, "body")
                assert np.ptp(wings[:, 1]) > 3 * np.ptp(body[:, 1])
                assert part(clouds, row, "tail")[:, 0].max() > wings[:, 0].mean()
                assert part(clouds, row, "engines")[:, 2].max() < wings[:, 2].max() + 0.01
