import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain import tree
from sparsetrain.models import CharLSTM

MODEL = CharLSTM(symbols=5, embedding=3, hidden=4)


def params_and_tokens():
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 5)
    params = MODEL.init(jax.random.key(1), tokens, MODEL.initial(2))
    return jax.tree.map(lambda x: x + 0.1, params), tokens


def test_layers_have_the_names_that_configs_match():
    params, _ = params_and_tokens()
    layers = [
        f"lstm_{n}/{leaf}" for n in (0, 1) for leaf in ("input/bias", "input/kernel", "recurrent")
    ]
    assert tree.paths(params["params"]) == [
        "embedding/embedding",
        *layers,
        "output/bias",
        "output/kernel",
    ]
    assert params["params"]["lstm_1"]["recurrent"].shape == (4, 16)


def test_forward_equals_numpy():
    params, tokens = params_and_tokens()
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    states = [[np.zeros((2, 4)), np.zeros((2, 4))] for _ in range(2)]
    expected = []
    for t in range(6):
        x = layers["embedding"]["embedding"][np.asarray(tokens[:, t])]
        for number, state in enumerate(states):
            layer = layers[f"lstm_{number}"]
            gates = (
                x @ layer["input"]["kernel"]
                + layer["input"]["bias"]
                + state[1] @ layer["recurrent"]
            )
            i, f, g, o = np.split(gates, 4, axis=1)
            state[0] = sigmoid(f) * state[0] + sigmoid(i) * np.tanh(g)
            state[1] = x = sigmoid(o) * np.tanh(state[0])
        expected.append(x @ layers["output"]["kernel"] + layers["output"]["bias"])
    logits, carry = MODEL.apply(params, tokens, MODEL.initial(2))
    np.testing.assert_allclose(logits, np.stack(expected, 1), rtol=1e-5, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        [list(pair) for pair in carry],
        states,
    )


def test_a_text_in_two_pieces_is_one_text():
    params, tokens = params_and_tokens()
    whole, end = MODEL.apply(params, tokens, MODEL.initial(2))
    first, carry = MODEL.apply(params, tokens[:, :2], MODEL.initial(2))
    second, again = MODEL.apply(params, tokens[:, 2:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, again)


def test_only_the_forget_gates_start_open():
    params = MODEL.init(jax.random.key(0), jnp.zeros([1, 2], int), MODEL.initial(1))["params"]
    assert params["lstm_0"]["input"]["bias"].tolist() == [0] * 4 + [1] * 4 + [0] * 8
