import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import TextCNN
from tests.models.start import start

TOKENS = jnp.array([[4, 5, 6, 2, 0, 0], [7, 0, 0, 0, 0, 0]])


def test_parameters_are_those_of_the_paper():
    model = TextCNN(symbols=20_000)
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"]
    sizes = {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in shapes.items()}
    # 100 filters of 3, 4 and 5 words of 300 entries, with a bias each.
    convolutions = {f"conv_{width}": 100 * (width * 300 + 1) for width in (3, 4, 5)}
    assert sizes == {"embedding": 6_000_000, **convolutions, "output": 602}
    assert sum(convolutions.values()) == 360_300


def test_forward_equals_numpy():
    model = TextCNN(symbols=9, classes=2, embedding=3, windows=(2, 4), maps=5)
    variables = jax.tree.map(lambda x: x + 0.1, start(model, TOKENS))
    together = model.apply(variables, TOKENS)
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    for row, length in ((0, 4), (1, 1)):
        words = layers["embedding"]["embedding"][np.asarray(TOKENS[row, :length])]
        pooled = []
        for width in (2, 4):
            ends = np.zeros((width - 1, 3))
            x = np.concatenate([ends, words, ends])
            kernel, bias = layers[f"conv_{width}"]["kernel"], layers[f"conv_{width}"]["bias"]
            maps = [
                np.einsum("we,weo->o", x[t : t + width], kernel) + bias
                for t in range(length + width - 1)
            ]
            pooled.append(np.maximum(maps, 0).max(0))
        logits = np.concatenate(pooled) @ layers["output"]["kernel"] + layers["output"]["bias"]
        # Alone, and beside a longer sentence.
        alone = model.apply(variables, TOKENS[row : row + 1, :length])[0]
        np.testing.assert_allclose(alone, logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(together[row], alone, rtol=1e-5)


def test_dropout_acts_in_training_only():
    model = TextCNN(symbols=9)
    variables = start(model, TOKENS)
    one, two = (
        model.apply(variables, TOKENS, train=True, rngs={"dropout": jax.random.key(i)})
        for i in (0, 1)
    )
    assert not np.array_equal(one, two)
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, TOKENS, train=True)
