import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sparsetrain.models import Tagger
from tests.models.start import start

TOKENS = jnp.array([[4, 5, 6, 0, 0], [7, 8, 3, 2, 1]])


def small(**fields):
    model = Tagger(9, 3, embedding=4, hidden=5, layers=1, **fields)
    return model, jax.tree.map(lambda x: x + 0.1, start(model, TOKENS))


def test_parameters_are_those_of_two_layers_both_ways():
    model = Tagger(symbols=20_000, tags=45)
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"]
    sizes = {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in shapes.items()}
    # Four gates: E x H from the input, H x H from the state before, H biases.
    first, second = (4 * (inputs * 500 + 500 * 500 + 500) for inputs in (100, 1000))
    assert sizes == {
        "embedding": 2_000_000,
        "forward_0": first,
        "backward_0": first,
        "forward_1": second,
        "backward_1": second,
        "output": 1000 * 45 + 45,
    }
    assert (first, second) == (1_202_000, 3_002_000)


def test_forward_equals_numpy():
    model, variables = small()
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def read(cell, words):
        c, h, outputs = np.zeros(5), np.zeros(5), []
        for x in words:
            i, f, g, o = (
                x @ cell[f"i{gate}"]["kernel"]
                + h @ cell[f"h{gate}"]["kernel"]
                + cell[f"h{gate}"]["bias"]
                for gate in "ifgo"
            )
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs)

    logits = jax.jit(model.apply)(variables, TOKENS)
    for row, length in ((0, 3), (1, 5)):
        words = layers["embedding"]["embedding"][np.asarray(TOKENS[row, :length])]
        # The way back begins at the last word, not in the padding behind it.
        both = [read(layers["forward_0"], words), read(layers["backward_0"], words[::-1])[::-1]]
        wanted = np.concatenate(both, 1) @ layers["output"]["kernel"] + layers["output"]["bias"]
        np.testing.assert_allclose(logits[row, :length], wanted, rtol=1e-4, atol=1e-5)


def test_the_faster_cell_has_the_same_parameters():
    model, variables = small()
    faster, _ = small(cell=nn.OptimizedLSTMCell)
    np.testing.assert_allclose(
        jax.jit(faster.apply)(variables, TOKENS), jax.jit(model.apply)(variables, TOKENS), rtol=1e-5
    )
