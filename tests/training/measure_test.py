import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward
from sparsetrain.models import MLP
from sparsetrain.training import measure

INPUTS = jax.random.normal(jax.random.key(0), (13, 6))
LABELS = jax.random.randint(jax.random.key(1), (13,), 0, 3)


def sparsified(rule):
    return backward.linen.sparsify(MLP(hidden=(20, 10), classes=3), {r"hidden.*/kernel": rule})


def loss_of(model):
    def loss(variables, batch):
        inputs, labels = batch
        logits = model.apply(variables, inputs)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])

    return loss


@pytest.mark.parametrize(
    "rule",
    [
        backward.top_k(density=0.2),
        backward.memorized_top_k(density=0.2, decay=0.5),
        backward.memorized_top_k(density=0.2, decay=0.5, memory="slot"),
        backward.unified_top_k(density=0.2),
        backward.random_k(density=0.2, key=0),
    ],
)
def test_kept_fraction_is_counted(rule):
    layers = sparsified(rule).layers(jax.random.key(0), INPUTS[:4])
    assert measure.kept_fraction(layers) == pytest.approx((4 + 2) / (20 + 10))


def test_kept_fraction_weighs_layers_by_their_outputs():
    rules = {
        "hidden_0/kernel": backward.top_k(density=0.1),
        "hidden_1/kernel": backward.top_k(density=0.7),
    }
    model = backward.linen.sparsify(MLP(hidden=(20, 10)), rules)
    layers = model.layers(jax.random.key(0), INPUTS[:4])
    assert measure.kept_fraction(layers) == pytest.approx((2 + 7) / 30)
    assert measure.kept_fraction([]) == 1.0


def test_memory_norm_is_over_all_layers_and_leaves_counters_out():
    memory = {
        "a": jnp.array([[3.0, 0.0]]),
        "b": jnp.array([4.0, 12.0]),
        "counter": jnp.array(100.0),
    }
    assert float(measure.memory_norm({"params": {}, "memory": memory})) == pytest.approx(13.0)
    assert float(measure.memory_norm({"params": {}})) == 0.0


def test_everything_kept_has_angle_zero():
    model = sparsified(backward.top_k(density=1.0))
    variables = model.init(jax.random.key(2), INPUTS[:4])
    dense = {"params": variables["params"]}
    angle = measure.gradient_angles(loss_of(model), variables, dense, (INPUTS, LABELS), 4)
    assert float(angle["gradient_angle"]) < 1e-3


def test_angle_equals_numpy_on_the_mean_over_batches():
    model = sparsified(backward.memorized_top_k(density=0.2, decay=0.5))
    variables = model.init(jax.random.key(2), INPUTS[:4])
    variables["memory"] = jax.tree.map(lambda m: m + 0.05, variables["memory"])
    dense = {"params": variables["params"]}
    loss = loss_of(model)

    def mean_gradient(variables):
        total = 0.0
        for start in (0, 4, 8):  # The 13th example does not fill a batch.
            batch = slice(start, start + 4)
            gradient = jax.grad(loss)(variables, (INPUTS[batch], LABELS[batch]))["params"]
            leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(gradient)]
            leaves.append(np.asarray(gradient["hidden_1"]["kernel"], np.float64).ravel())
            total = total + np.concatenate(leaves)
        return np.split(total, [-200])  # All parameters, and a second time hidden_1/kernel.

    def angle(a, b):
        return np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    expected = [
        angle(a, b) for a, b in zip(mean_gradient(variables), mean_gradient(dense), strict=True)
    ]
    assert min(expected) > 0.1 and abs(expected[0] - expected[1]) > 0.1
    angles = measure.gradient_angles(
        loss, variables, dense, (INPUTS, LABELS), 4, ("hidden_1/kernel",)
    )
    assert list(angles) == ["gradient_angle", "gradient_angle/hidden_1/kernel"]
    np.testing.assert_allclose(list(angles.values()), expected, rtol=1e-4)


def test_too_few_examples_for_the_angle():
    with pytest.raises(ValueError, match="batch_size=14: more than the 13"):
        measure.gradient_angles(None, {}, {}, (INPUTS, LABELS), 14)
