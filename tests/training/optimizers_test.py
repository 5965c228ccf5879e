import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain.training import optimizers

PARAMS = {"w": jnp.array([3.0, -4.0])}


def moved(config, gradient=PARAMS, steps=1):
    tx = optimizers.make(config)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["w"] - PARAMS["w"])


def test_the_gradient_is_cut_before_the_weights_decay():
    zero = {"w": jnp.zeros(2)}
    plain = {"name": "sgd", "learning_rate": 1.0}
    np.testing.assert_allclose(moved(plain | {"weight_decay": 0.1}, zero), [-0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(moved(plain | {"clip": 1.0}), [-0.6, 0.8], rtol=1e-6)
    both = moved(plain | {"clip": 1.0, "weight_decay": 0.1})
    np.testing.assert_allclose(both, [-0.9, 1.2], rtol=1e-6)


def test_a_schedule_is_followed():
    falls = {"name": "sgd", "learning_rate": 1.0, "schedule": "stepwise", "boundaries": (2,)}
    np.testing.assert_allclose(moved(falls | {"factor": 0.1}, steps=3), [-6.3, 8.4], rtol=1e-5)
    rate = optimizers.stepwise(1.0, (100,), warmup_steps=4)
    assert [float(rate(t)) for t in (0, 1, 3, 10)] == [0.25, 0.5, 1.0, 1.0]
    assert float(optimizers.cosine(2.0, decay_steps=10)(5)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"name": "sgd", "learning_rate": 1.0, "schedule": "linear"},
            "optimizer.schedule='linear'",
        ),
        (
            {"name": "sgd", "learning_rate": 1.0, "schedule": "cosine"},
            "needs optimizer.decay_steps",
        ),
        ({"name": "sgd", "learning_rate": 1.0, "warmup": 3}, "optimizer.warmup: neither sgd nor"),
    ],
)
def test_mistakes_name_the_field(config, message):
    with pytest.raises(ValueError, match=message):
        optimizers.make(config)
