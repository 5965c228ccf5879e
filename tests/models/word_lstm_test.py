import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import CharLSTM, WordLSTM
from tests.models.start import start

TOKENS = jnp.array([[4, 5, 6, 1], [2, 3, 3, 0]])


def test_parameters_are_those_of_the_medium_model():
    model = WordLSTM(symbols=10_000)
    carry = model.initial(20)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((20, 35), int), carry)
    sizes = {
        name: sum(x.size for x in jax.tree.leaves(layer))
        for name, layer in shapes["params"].items()
    }
    layer = 4 * (650 * 650 + 650 * 650 + 650)
    assert sizes == {
        "embedding": 6_500_000,
        "lstm_0": layer,
        "lstm_1": layer,
        "output": 6_510_000,
    }
    # The paper's "20M".
    assert sum(sizes.values()) == 19_775_200


def test_it_is_the_character_model_with_other_names():
    # The same gates in another layout: two implementations vouch for one another.
    model, twin = WordLSTM(7, hidden=3, layers=2), CharLSTM(7, embedding=3, hidden=3, layers=2)
    carry = model.initial(2)
    variables = start(model, TOKENS, carry)
    params = dict(variables["params"])
    for number in (0, 1):
        gates = params[f"lstm_{number}"]
        params[f"lstm_{number}"] = {
            "input": {
                "kernel": jnp.concatenate([gates[f"i{g}"]["kernel"] for g in "ifgo"], 1),
                "bias": jnp.concatenate([gates[f"h{g}"]["bias"] for g in "ifgo"]),
            },
            "recurrent": jnp.concatenate([gates[f"h{g}"]["kernel"] for g in "ifgo"], 1),
        }
    wanted, end = jax.jit(twin.apply)({"params": params}, TOKENS, carry)
    logits, states = jax.jit(model.apply)(variables, TOKENS, carry)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), states, end)


def test_dropout_acts_in_training_only_and_never_on_states():
    model = WordLSTM(7, hidden=8, layers=1)
    carry = model.initial(2)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS, carry)
    assert all(abs(leaf).max() <= 0.05 for leaf in jax.tree.leaves(variables))
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, TOKENS, carry, train=True)
    _, ((_, h),) = model.apply(
        variables, TOKENS, carry, train=True, rngs={"dropout": jax.random.key(0)}
    )
    assert h.all()
