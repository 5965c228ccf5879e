import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import tree
from sparsetrain.models import MLP


def test_layers_have_the_names_that_configs_match():
    params = MLP(hidden=(5, 4), classes=3).init(jax.random.key(0), jnp.ones([2, 6]))
    assert tree.paths(params["params"]) == [
        f"{layer}/{leaf}"
        for layer in ("hidden_0", "hidden_1", "output")
        for leaf in ("bias", "kernel")
    ]
    assert params["params"]["output"]["kernel"].shape == (4, 3)


@pytest.mark.parametrize(("hidden", "parameters"), [((300, 100), 266_610), ((500, 500), 648_010)])
def test_parameters_are_those_published(hidden, parameters):
    # LeNet-300-100, and the MLP of MSBP's MNIST table.
    images = jnp.ones([1, 28, 28, 1])
    shapes = jax.eval_shape(MLP(hidden=hidden).init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_forward_equals_numpy():
    model = MLP(hidden=(5, 4), classes=3, activation="tanh")
    inputs = jax.random.normal(jax.random.key(1), (7, 2, 3, 1))
    params = jax.tree.map(
        lambda x: x + 0.1, model.init(jax.random.key(0), inputs)
    )  # Biases that are not zero.
    x = np.asarray(inputs, np.float64).reshape(7, 6)
    for name in ("hidden_0", "hidden_1", "output"):
        layer = params["params"][name]
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        x = x if name == "output" else np.tanh(x)
    np.testing.assert_allclose(model.apply(params, inputs), x, rtol=1e-5, atol=1e-6)


def test_weights_follow_he_and_biases_are_zero():
    params = MLP(hidden=(400,)).init(jax.random.key(0), jnp.ones([1, 300]))["params"]["hidden_0"]
    # Standard error of a standard deviation over 120,000 weights: 0.2 %.
    assert float(params["kernel"].std()) == pytest.approx(np.sqrt(2 / 300), rel=0.01)
    assert not params["bias"].any()


def test_dropout_acts_in_training_only():
    model = MLP(hidden=(64,), dropout=0.5)
    inputs = jnp.ones([2, 3])
    params = model.init(jax.random.key(0), inputs)
    plain = MLP(hidden=(64,)).apply(params, inputs)
    np.testing.assert_array_equal(model.apply(params, inputs), plain)
    draws = [
        model.apply(params, inputs, train=True, rngs={"dropout": jax.random.key(n)})
        for n in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], plain)


@pytest.mark.parametrize(
    ("field", "value", "cure"),
    [("activation", "rellu", "relu"), ("dropout", 1.0, "switches it off")],
)
def test_bad_fields_name_the_cure(field, value, cure):
    with pytest.raises(ValueError, match=f"{field}=.*{cure}"):
        MLP(**{field: value}).init(jax.random.key(0), jnp.ones([1, 3]))
