import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sparsetrain import masks

DENSITY = 0.2


def setup():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    params = {
        "first": {"kernel": normal(4, 5), "bias": normal(5)},
        "second": {"kernel": normal(5, 3), "bias": normal(3)},
    }
    return params, (normal(16, 4), normal(16, 3))


def loss(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    found = hidden @ params["second"]["kernel"] + params["second"]["bias"][None]
    return jnp.mean(jnp.square(found - y))


def kernels(tree):
    """What can be masked, as one vector in the order of the leaves."""
    return np.concatenate([np.asarray(tree[name]["kernel"]).ravel() for name in tree])


def chosen(scores, params, **options):
    tx = masks.static(optax.sgd(0.1), DENSITY, scores=scores, distribution="global", **options)
    found = tx.init(params).masks
    return np.concatenate([np.asarray(found[f"{name}/kernel"]).ravel() for name in params])


def test_snip_keeps_the_top_fraction_of_all_weights_together():
    params, batch = setup()
    scores = masks.snip_scores(loss, params, batch)
    step = 1e-2  # Wide enough for float32, whose rounding the quotient enlarges.
    for path, at in (("first", (1, 2)), ("second", (4, 0))):
        # dL / dc of a connection that is switched by c = 1: the paper's definition.
        def switched(c, path=path, at=at):
            kernel = params[path]["kernel"].at[at].multiply(c)
            return float(loss({**params, path: {**params[path], "kernel": kernel}}, batch))

        slope = (switched(1 + step) - switched(1 - step)) / (2 * step)
        assert float(scores[path]["kernel"][at]) == pytest.approx(abs(slope), rel=2e-2, abs=1e-4)
    gradient = jax.grad(loss)(params, batch)
    expected = np.abs(kernels(params) * kernels(gradient))
    np.testing.assert_allclose(kernels(scores), expected, rtol=1e-5)
    mask = chosen(scores, params)
    kept = round(DENSITY * expected.size)
    assert mask.sum() == kept
    np.testing.assert_array_equal(mask, expected >= np.sort(expected)[-kept])


def test_grasp_against_the_whole_hessian():
    params, batch = setup()
    flat, unravel = ravel_pytree(params)

    def of_flat(w):
        return loss(unravel(w), batch)

    hessian = np.asarray(jax.hessian(of_flat)(flat), np.float64)
    gradient = np.asarray(jax.grad(of_flat)(flat), np.float64)
    # The reference code removes the largest of -w (H g): how much |g|^2 would fall.
    removal = -np.asarray(flat, np.float64) * (hessian @ gradient)
    scores = masks.grasp_scores(loss, params, batch)
    found = np.asarray(ravel_pytree(scores)[0], np.float64)
    assert found.min() == 0
    np.testing.assert_allclose(found - found.max(), -removal - np.max(-removal), atol=2e-4)
    mask = chosen(scores, params)
    reference = kernels(unravel(jnp.asarray(removal, jnp.float32)))
    removed = reference.size - round(DENSITY * reference.size)
    assert np.sum(~mask) == removed
    np.testing.assert_array_equal(~mask, reference >= np.sort(reference)[-removed])


def test_grasp_with_biases_shifts_all_scores_alike():
    """A bias of the least score must not make the kernels' order another."""
    params = {"w": jnp.array([[1.0, -1.0, 2.0]]), "b": jnp.array([5.0])}

    def quadratic(params, batch):
        del batch
        curved = 0.5 * jnp.sum(jnp.array([[1.0, 2.0, 3.0]]) * params["w"] ** 2)
        return curved - jnp.sum(params["b"] ** 2)

    scores = masks.grasp_scores(quadratic, params, None)
    # w H g = w^2 h^2 for a diagonal H: 1, 4, 36 and, of the bias, 25 * 4.
    np.testing.assert_allclose(scores["w"], [[0.0, 3.0, 35.0]])
    np.testing.assert_allclose(scores["b"], [99.0])


def test_a_layer_may_be_emptied_by_a_global_threshold():
    """SNIP at extreme densities is known for it; the mask is then honest about it."""
    params = {"dead": jnp.ones((2, 2)), "live": jnp.ones((8, 8))}
    scores = {"dead": jnp.zeros((2, 2)), "live": jnp.arange(64.0).reshape(8, 8) + 1}
    tx = masks.static(optax.sgd(0.1), 0.1, scores=scores, distribution="global")
    found = tx.init(params).masks
    assert int(found["dead"].sum()) == 0 and int(found["live"].sum()) == round(0.1 * 68)


def test_scores_that_are_not_those_of_the_parameters():
    params, _ = setup()
    tx = masks.static(optax.sgd(0.1), DENSITY, scores={"first": params["first"]})
    with pytest.raises((KeyError, ValueError), match="second/kernel"):
        tx.init(params)
