import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sparsetrain.compress.variance_ratio import (
    gradient_scales,
    initial_densities,
    variance_ratio,
)


def forward(weights, x, strides):
    for number, (w, stride) in enumerate(zip(weights, strides, strict=True)):
        if w.ndim == 2:
            x = x @ w
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=layout)
        x = jnp.where(number + 1 < len(weights), jax.nn.relu(x), x)
    return x


def measured(shapes, x_shape, strides=None, seeds=3):
    """Ratios of the mean square of neighbouring layers' weight gradients, at He initialisation."""
    strides = strides or (1,) * len(shapes)

    def loss(weights, x, readout):
        return jnp.sum(forward(weights, x, strides) * readout)

    gradients = jax.jit(jax.grad(loss))
    rng = np.random.default_rng(0)
    squares = np.zeros(len(shapes))
    for _ in range(seeds):
        weights = [
            np.float32(rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[:-1])))
            for shape in shapes
        ]
        x = np.float32(rng.standard_normal(x_shape))
        out = jax.eval_shape(lambda weights, x: forward(weights, x, strides), weights, x)
        readout = np.float32(rng.standard_normal(out.shape))
        squares += [np.mean(np.square(g)) for g in gradients(weights, x, readout)]
    return squares[1:] / squares[:-1]


def test_fully_connected_ratios_are_those_measured():
    widths = (98, 50, 100, 25, 75, 10)
    shapes = list(itertools.pairwise(widths))
    found = measured(shapes, (64, 98), seeds=24)
    both = [
        [variance_ratio(*shape, kind=kind) for shape in shapes[1:]]
        for kind in ("corrected", "printed")
    ]
    assert both[0] == both[1] == [0.5, 4.0, 1 / 3, 7.5]
    np.testing.assert_allclose(found, both[0], rtol=0.15)


@pytest.mark.parametrize("strides", [(1, 1, 1, 1), (1, 2, 1, 2)])
def test_convolution_ratios_are_the_corrected_ones(strides):
    kernels, channels = (3, 5, 1, 3), (16, 32, 64, 24, 48)
    shapes = [(k, k, c, d) for k, c, d in zip(kernels, channels, channels[1:], strict=False)]
    found = measured(shapes, (4, 12, 12, 16), strides)
    triples = list(zip(shapes[1:], kernels[1:], kernels, strict=False))
    corrected, printed = (
        [variance_ratio(*shape[2:], k, before, kind=kind) for shape, k, before in triples]
        for kind in ("corrected", "printed")
    )
    np.testing.assert_allclose(corrected, [0.5, 2.667, 0.5], rtol=1e-3)
    np.testing.assert_allclose(printed, [1.389, 0.107, 4.5], rtol=1e-2)
    np.testing.assert_allclose(found, corrected, rtol=0.25)  # Zero padding costs a little.
    assert (np.abs(np.log(found / printed)) > np.log(2)).all()


def test_scales_telescope_in_a_chain():
    shapes = [(3, 3, 16, 32), (5, 5, 32, 64), (1, 1, 64, 24), (24, 48)]
    squared = np.square(gradient_scales(shapes))
    np.testing.assert_allclose(squared, [32 / shape[-1] for shape in shapes])
    assert gradient_scales(shapes, kind="printed") != gradient_scales(shapes)
    assert gradient_scales([]) == []


@pytest.mark.parametrize("density", [1.0, 0.5, 0.01, 1e-4])
def test_initial_densities_share_a_threshold(density):
    sizes, scales = [300_000, 2_000, 50_000, 10], [0.1, 3.0, 1.0, 0.5]
    found = initial_densities(density, sizes, scales)
    assert sum(n * a for n, a in zip(sizes, found, strict=True)) == pytest.approx(
        density * sum(sizes)
    )
    assert all(0 <= a <= 1 for a in found)
    assert sorted(found) == [found[i] for i in np.argsort(scales)]
    rng = np.random.default_rng(0)
    flat = np.concatenate([s * rng.standard_normal(n) for n, s in zip(sizes, scales, strict=True)])
    threshold = np.sort(np.abs(flat))[::-1][max(1, round(density * flat.size)) - 1]
    ends = np.cumsum([0, *sizes])
    for first, last, n, a in zip(ends, ends[1:], sizes, found, strict=False):
        share = (np.abs(flat[first:last]) >= threshold).mean()
        assert abs(share - a) < 5 * math.sqrt(a / n) + 2 / n


def test_equal_scales_get_equal_densities():
    np.testing.assert_allclose(initial_densities(0.03, [10, 1000], [2.0, 2.0]), 0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance_ratio(0, 5), "inputs=0"),
        (lambda: variance_ratio(5, 5, 3, 0), "previous_kernel=0"),
        (lambda: variance_ratio(5, 5, kind="exact"), "kind='exact'"),
        (lambda: gradient_scales([(5,)]), "rank 2 or 4"),
        (lambda: initial_densities(0.1, [5], [1.0, 2.0]), "1 and 2 numbers"),
        (lambda: initial_densities(0.1, [5], [0.0]), "positive and finite"),
        (lambda: initial_densities(2.0, [5], [1.0]), "density=2.0"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
