import math

import numpy as np
import pytest

from sparsetrain import masks
from sparsetrain.masks.distribution import counts
from sparsetrain.masks.structure import Unstructured

SHAPES = {"a": (3, 3, 3, 16), "b": (3, 3, 16, 32), "c": (1024, 10)}


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.9])
def test_erdos_renyi_kernel_meets_the_density_of_the_model(density):
    found = masks.erk(SHAPES, density)
    sizes = {path: math.prod(shape) for path, shape in SHAPES.items()}
    kept = sum(found[path] * sizes[path] for path in SHAPES)
    assert kept == pytest.approx(density * sum(sizes.values()), abs=len(SHAPES))
    assert all(0 < each <= 1 for each in found.values())
    # Of the layers that are not dense, density is in proportion to sum(dims) / prod(dims).
    ratios = [found[path] * sizes[path] / sum(SHAPES[path]) for path in SHAPES if found[path] < 1]
    np.testing.assert_allclose(ratios, ratios[:1] * len(ratios))


def test_no_layer_is_left_empty():
    small = {"a": (2, 2), "b": (100, 100)}
    for distribution in ("uniform", "erk", "global", {"a": 1e-9, "b": 0.5}):
        assert min(counts(small, 1e-3, distribution, Unstructured())) >= 1
    assert counts(small, 0.1, "uniform", masks.block(4, 4)) == [1, 62]


def test_an_expression_gives_some_layers_their_own_density():
    assert masks.densities(SHAPES, 0.1, {"[ab]": 0.5}) == {"a": 0.5, "b": 0.5, "c": 0.1}
    assert masks.densities(SHAPES, 0.1, {"a": 1.0, ".*": 0.2}) == {"a": 1.0, "b": 0.2, "c": 0.2}


def test_bad_densities_and_names():
    for density in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="must lie in"):
            masks.erk(SHAPES, density)
        with pytest.raises(ValueError, match="must lie in"):
            masks.uniform(SHAPES, density)
    with pytest.raises(ValueError, match="distribution='even': choose one of"):
        masks.densities(SHAPES, 0.1, "even")
    with pytest.raises(ValueError, match=r"\['x'\] matched no leaf .* masked: a, b, c"):
        masks.densities(SHAPES, 0.1, {"a": 0.1, "x": 0.1})
    with pytest.raises(
        ValueError, match=r"\['b'\] matched no leaf"
    ):  # Who comes first has them all.
        masks.densities(SHAPES, 0.1, {".*": 0.2, "b": 0.1})
    with pytest.raises(ValueError, match="not a regular expression"):
        masks.densities(SHAPES, 0.1, {"(": 0.2})
    with pytest.raises(ValueError, match=r"distribution\['a'\]=0"):
        masks.densities({"a": (2, 2)}, 0.1, {"a": 0})
    with pytest.raises(ValueError, match="2:4 masks have density"):
        counts({"a": (4, 4)}, 0.25, "uniform", masks.n_m(2, 4))
