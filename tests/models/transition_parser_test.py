import jax
import numpy as np
import pytest

from sparsetrain import tree
from sparsetrain.models import TransitionParser

WORDS, TAGS, LABELS = (
    jax.random.randint(jax.random.key(i), (2, places), 0, 5)
    for i, places in enumerate((18, 18, 12))
)


def test_parameters_are_those_of_the_paper():
    # 48 features of 50 entries each, and 200 hidden units, as Chen and Manning have them.
    model = TransitionParser(words=5, tags=5, labels=5, transitions=91, hidden=200)
    shapes = jax.eval_shape(model.init, jax.random.key(0), WORDS, TAGS, LABELS)["params"]
    assert shapes["hidden"]["kernel"].shape == (48 * 50, 200)
    assert shapes["output"]["kernel"].shape == (200, 91)
    assert {shapes[name]["embedding"].shape for name in ("words", "tags", "labels")} == {(5, 50)}


def test_forward_equals_numpy():
    model = TransitionParser(words=5, tags=5, labels=5, transitions=3, embedding=2, hidden=4)
    variables = model.init(jax.random.key(0), WORDS, TAGS, LABELS)
    assert max(float(abs(variables["params"]["tags"]["embedding"]).max()), 0.01) == 0.01
    variables = jax.tree.map(lambda x: x + 0.1, variables)
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    x = np.concatenate(
        [
            layers[name]["embedding"][np.asarray(ids)].reshape(2, -1)
            for name, ids in (("words", WORDS), ("tags", TAGS), ("labels", LABELS))
        ],
        1,
    )
    hidden = (x @ layers["hidden"]["kernel"] + layers["hidden"]["bias"]) ** 3
    wanted = hidden @ layers["output"]["kernel"] + layers["output"]["bias"]
    np.testing.assert_allclose(model.apply(variables, WORDS, TAGS, LABELS), wanted, rtol=1e-4)


def test_a_parser_without_labels():
    model = TransitionParser(words=5, tags=5, transitions=3, embedding=2, hidden=4)
    variables = model.init(jax.random.key(0), WORDS, TAGS)
    assert not any("labels" in path for path in tree.paths(variables))
    with pytest.raises(ValueError, match="labels=0"):
        model.apply(variables, WORDS, TAGS, LABELS)
    with pytest.raises(ValueError, match=r"activation='cubed'.*cube"):
        model.clone(activation="cubed").apply(variables, WORDS, TAGS)
