import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import boxes


def random_corners(key, *shape):
    low, extent = jax.random.uniform(jax.random.key(key), (2, *shape, 2))
    return np.asarray(jnp.concatenate([low * 0.6, low * 0.6 + 0.02 + 0.38 * extent], -1))


def overlap(a, b):
    """Of two boxes, by hand."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_default_boxes_by_hand():
    found = boxes.default_boxes((2, 1), (8, 16), (4, 9, 16), ((2,), ()), image=16)
    wanted = []
    for y in (4, 12):
        for x in (4, 12):
            for w, h in ((4, 4), (6, 6), (4 * 2**0.5, 4 / 2**0.5), (4 / 2**0.5, 4 * 2**0.5)):
                wanted.append((x, y, w, h))
    wanted += [(8, 8, 9, 9), (8, 8, 12, 12)]
    np.testing.assert_allclose(found, np.array(wanted) / 16, rtol=1e-6)


def test_default_boxes_are_those_of_the_paper():
    found = boxes.default_boxes()
    assert found.shape == (38**2 * 4 + (19**2 + 10**2 + 5**2) * 6 + (3**2 + 1) * 4, 4) == (8732, 4)
    assert found.min() >= 0 and found.max() == 1
    # The last map's boxes lie around the middle.
    np.testing.assert_array_equal(found[-4:, :2], np.full((4, 2), 0.5))


def test_overlap_of_all_pairs():
    a, b = random_corners(0, 7), random_corners(1, 5)
    found = boxes.overlap(a, b)
    wanted = [[overlap(x, y) for y in b] for x in a]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (np.array(wanted) > 0.1).any()
    assert float(boxes.overlap(jnp.zeros((1, 4)), jnp.zeros((1, 4)))[0, 0]) == 0


def test_offsets_and_back():
    corners, defaults = random_corners(0, 2, 7), boxes.to_centres(random_corners(1, 7))
    offsets = boxes.encode(corners, defaults)
    for row in range(7):
        x, y, w, h = np.asarray(boxes.to_centres(corners))[1, row]
        a, b, c, d = np.asarray(defaults)[row]
        wanted = [(x - a) / c / 0.1, (y - b) / d / 0.1, np.log(w / c) / 0.2, np.log(h / d) / 0.2]
        np.testing.assert_allclose(offsets[1, row], wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(boxes.decode(offsets, defaults), corners, atol=1e-5)
    np.testing.assert_allclose(boxes.to_corners(boxes.to_centres(corners)), corners, atol=1e-6)


@pytest.mark.parametrize("key", range(3))
def test_match_one_after_another(key):
    defaults = np.asarray(boxes.to_centres(random_corners(9, 40)))
    corners, labels = random_corners(key, 6), np.array([3, 1, 2, 5, 0, 0])
    offsets, found = jax.jit(boxes.match)(corners, labels, defaults, 0.3)
    owner = {}
    as_corners = np.asarray(boxes.to_corners(defaults))
    for d in range(40):
        shared = [overlap(corners[n], as_corners[d]) for n in range(4)]
        if max(shared) > 0.3:
            owner[d] = int(np.argmax(shared))
    for n in range(4):
        owner[int(np.argmax([overlap(corners[n], box) for box in as_corners]))] = n
    assert found.tolist() == [labels[owner[d]] if d in owner else 0 for d in range(40)]
    decoded = boxes.decode(offsets, defaults)
    for d in range(40):
        if d in owner:
            np.testing.assert_allclose(decoded[d], corners[owner[d]], atol=1e-5)
        else:
            assert not offsets[d].any()
    assert len(owner) >= 4 and found.dtype == labels.dtype.name.replace("64", "32")


def test_an_image_without_objects_is_background():
    offsets, labels = boxes.match(jnp.zeros((2, 4)), jnp.zeros(2, int), jnp.full((3, 4), 0.5))
    assert not offsets.any() and not labels.any()
