import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain.models import boxes, detection
from tests.models.boxes_test import overlap, random_corners


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def test_the_loss_takes_three_of_the_hardest_backgrounds_for_each_object():
    keys = jax.random.split(jax.random.key(0), 4)
    offsets, true = 2 * jax.random.normal(keys[0], (2, 3, 12, 4))
    logits = jax.random.normal(keys[2], (3, 12, 4))
    labels = np.zeros((3, 12), int)
    labels[0, [2, 7]], labels[1, 4] = (1, 3), 2  # The third image is empty.
    found = jax.jit(detection.multibox_loss)(offsets, logits, true, labels)
    each = []
    for b in range(3):
        p = softmax(np.asarray(logits[b], np.float64))
        wrong = -np.log(p[np.arange(12), labels[b]])
        objects = labels[b] > 0
        apart = np.abs(np.asarray(offsets[b] - true[b], np.float64))
        apart = np.where(apart < 1, apart**2 / 2, apart - 0.5).sum(-1)
        hard = np.sort(wrong[~objects])[::-1][: 3 * objects.sum()]
        total = (apart + wrong)[objects].sum() + hard.sum()
        each.append(total / objects.sum() if objects.any() else 0)
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-5)
    # Backgrounds that are not among the hardest get no gradient, and offsets only those of objects.
    of_offsets, of_logits = jax.grad(detection.multibox_loss, (0, 1))(offsets, logits, true, labels)
    assert [int((of_logits[b] != 0).any(-1).sum()) for b in range(3)] == [8, 4, 0]
    assert [int((of_offsets[b] != 0).any(-1).sum()) for b in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("threshold", [0.2, 0.45])
def test_suppression_one_after_another(threshold):
    for key in range(3):
        corners = random_corners(key, 30)
        scores = np.r_[np.linspace(0.9, 0.1, 27), 0, 0, 0]
        kept = []
        for i in range(27):
            if all(overlap(corners[i], corners[j]) < threshold for j in kept):
                kept.append(i)
        found = detection.suppress(corners, scores, threshold)
        assert np.flatnonzero(found).tolist() == kept
        assert 3 < len(kept) < 27


def test_detections_class_by_class():
    defaults = np.asarray(boxes.to_centres(random_corners(9, 25)))
    offsets = 0.5 * jax.random.normal(jax.random.key(0), (2, 25, 4))
    logits = 2 * jax.random.normal(jax.random.key(1), (2, 25, 4))

    def detect(offsets, logits):
        return detection.detect(offsets, logits, defaults, score=0.2, candidates=9, limit=12)

    found = jax.jit(jax.vmap(detect))(offsets, logits)
    for b in range(2):
        corners, p = (
            np.asarray(boxes.decode(offsets[b], defaults)),
            softmax(np.asarray(logits[b])),
        )
        wanted = []
        for label in (1, 2, 3):
            order = [i for i in np.argsort(-p[:, label]) if p[i, label] > 0.2][:9]
            kept = []
            for i in order:
                if all(overlap(corners[i], corners[j]) < 0.45 for j in kept):
                    kept.append(i)
            wanted += [(p[i, label], label, i) for i in kept]
        wanted = sorted(wanted, reverse=True)[:12]
        n = len(wanted)
        np.testing.assert_allclose(
            found.scores[b, :n], [score for score, _, _ in wanted], rtol=1e-5
        )
        assert found.labels[b, :n].tolist() == [label for _, label, _ in wanted]
        rows = corners[[i for _, _, i in wanted]]
        np.testing.assert_allclose(found.corners[b, :n], rows, atol=1e-5)
        assert not found.scores[b, n:].any() and not found.labels[b, n:].any()


def test_a_limit_beyond_reach_is_refused():
    with pytest.raises(ValueError, match="limit=200"):
        detection.detect(jnp.zeros((5, 4)), jnp.zeros((5, 3)), boxes.default_boxes()[:5])


def test_an_easy_image_is_learned():
    # The whole way: match, loss, detections; the network is a table.
    defaults = boxes.default_boxes((4, 2), (8, 16), (8, 16, 24), ((2,), (2,)), image=32)
    corners, labels = random_corners(3, 2), np.array([1, 2])
    true = [x[None] for x in boxes.match(corners, labels, defaults)]
    tx = optax.adam(0.3)

    @jax.jit
    def train():
        said = (jnp.zeros((1, 80, 4)), jnp.zeros((1, 80, 3)))

        def step(carry, _):
            said, state = carry
            grads = jax.grad(lambda said: detection.multibox_loss(*said, *true))(said)
            moves, state = tx.update(grads, state)
            return (optax.apply_updates(said, moves), state), None

        (said, _), _ = jax.lax.scan(step, (said, tx.init(said)), length=60)
        return detection.detect(said[0][0], said[1][0], defaults, score=0.5, limit=5)

    found = train()
    assert sorted(found.labels.tolist()) == [0, 0, 0, 1, 2]
    for row in range(2):
        wanted = corners[labels.tolist().index(int(found.labels[row]))]
        assert overlap(np.asarray(found.corners[row]), wanted) > 0.8
