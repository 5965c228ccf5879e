"""The same masks as jaxpruner where both mean the same; runs where it is installed (it is not on PyPI)."""

import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import masks, selection
from sparsetrain.masks.drop_and_grow import drop_and_grow
from sparsetrain.masks.structure import Unstructured, keep_largest

pytest.importorskip("jaxpruner", exc_type=ImportError)
calculator = pytest.importorskip("jaxpruner.mask_calculator", exc_type=ImportError)
distributions = pytest.importorskip("jaxpruner.sparsity_distributions", exc_type=ImportError)
types = pytest.importorskip("jaxpruner.sparsity_types", exc_type=ImportError)
trainers = pytest.importorskip("jaxpruner.algorithms.sparse_trainers", exc_type=ImportError)

# Its code is older than the JAX that we run on.
pytestmark = pytest.mark.filterwarnings("ignore")


def distinct(*shape, seed=0):
    """Scores above zero, no two alike, in random order."""
    order = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return jnp.asarray(order.reshape(shape) + 1, jnp.float32)


@pytest.mark.parametrize("density", [0.01, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(7, 9), (3, 3, 4, 8), (997, 1)])
def test_unstructured_magnitude(shape, density):
    scores = distinct(*shape)
    theirs = calculator.topk_mask_calculator(scores, 1 - density)
    kept = selection.count(scores.size, density)
    ours = keep_largest({"w": scores}, Unstructured(), [kept])["w"]
    np.testing.assert_array_equal(ours, np.asarray(theirs, bool))


def test_ties_go_to_the_lower_index_in_both():
    scores = jnp.asarray(np.random.default_rng(0).integers(1, 4, (20, 5)), jnp.float32)
    theirs = calculator.topk_mask_calculator(scores, 0.7)
    ours = keep_largest({"w": scores}, Unstructured(), [30])["w"]
    np.testing.assert_array_equal(ours, np.asarray(theirs, bool))


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 8)])
def test_n_of_m_of_distinct_scores(n, m):
    # Of equal scores they keep the last and we the first.
    scores = distinct(16, 6)
    theirs = calculator.topk_n_by_m_mask_calculator(scores, types.NByM(n, m, axis=0))
    ours = keep_largest({"w": scores}, masks.n_m(n, m), [0])["w"]
    np.testing.assert_array_equal(ours, np.asarray(theirs, bool))


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.5, 0.9])
def test_erdos_renyi_kernel(density):
    for shapes in (
        {"a": (784, 300), "b": (300, 100), "c": (100, 10)},
        {"a": (3, 3, 3, 16), "b": (3, 3, 16, 32), "c": (3, 3, 32, 64), "d": (1024, 10)},
    ):
        # Its floor of (1 - density) N loses a zero where 1 - density is rounded down.
        theirs = distributions.get_sparsities_erdos_renyi(shapes, round(1 - density, 9))
        ours = masks.erk(shapes, density)
        for path in shapes:
            assert 1 - ours[path] == pytest.approx(theirs[path], abs=1e-9)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_rigl_update(fraction):
    mask = jnp.array([0, 1, 0, 1, 0, 1, 1, 0], jnp.uint8)
    score = jnp.array([-9, 1, 4, -1, 5, 8, -2, 3], jnp.float32)
    theirs = trainers.RigL()._update_masks(mask, score, jnp.abs(score), drop_fraction=fraction)
    # Their drop score keeps its sign; ours is a magnitude.
    (ours,) = drop_and_grow(
        [mask.astype(bool)], [score + 10], [score], jnp.array([int(fraction * 4)])
    )
    np.testing.assert_array_equal(ours, np.asarray(theirs, bool))
