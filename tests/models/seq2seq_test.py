import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import Seq2Seq, translate
from tests.models.start import start

SOURCE = jnp.array([[4, 5, 6, 2, 0, 0], [7, 8, 9, 10, 4, 2]])
TARGET = jnp.array([[1, 7, 8, 9], [1, 5, 4, 3]])
MODEL = Seq2Seq(11, 12, embedding=3, hidden=4, layers=1, dropout=0.5)


@pytest.fixture(scope="module")
def variables():
    return jax.tree.map(lambda x: 2 * x + 0.1, start(MODEL, SOURCE, TARGET))


def test_parameters_are_those_of_three_and_three_layers():
    model = Seq2Seq(17_000, 7_700)
    shapes = jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)["params"]
    sizes = {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in shapes.items()}

    def cell(inputs, hidden):
        return 4 * (inputs * hidden + hidden * hidden + hidden)

    assert sizes == {
        "source_embedding": 17_000 * 512,
        "target_embedding": 7_700 * 512,
        "encoder": 3 * 2 * cell(512, 256),
        # Input feeding: the first cell also reads h~.
        "decoder": cell(1024, 512) + 2 * cell(512, 512) + 1024 * 512,
        "attention": 512 * 512,
        "output": 513 * 7_700,
    }


def test_forward_equals_numpy(variables):
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def cell(w, state, x):
        c, h = state
        i, f, g, o = (
            x @ w[f"i{n}"]["kernel"] + h @ w[f"h{n}"]["kernel"] + w[f"h{n}"]["bias"] for n in "ifgo"
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return c, sigmoid(o) * np.tanh(c)

    logits = jax.jit(MODEL.apply)(variables, SOURCE, TARGET)
    for row, length in ((0, 4), (1, 6)):
        words = params["source_embedding"]["embedding"][np.asarray(SOURCE[row, :length])]
        outputs, ends = [], []
        for way, order in (("forward", words), ("backward", words[::-1])):
            state, read = (np.zeros(2), np.zeros(2)), []
            for x in order:
                state = cell(params["encoder"][f"{way}_0"], state, x)
                read.append(state[1])
            outputs.append(np.stack(read if way == "forward" else read[::-1]))
            ends.append(state)
        memory = np.concatenate(outputs, 1)
        state = tuple(np.concatenate(pair) for pair in zip(*ends, strict=True))
        attended = np.zeros(4)
        for t in range(4):
            x = params["target_embedding"]["embedding"][int(TARGET[row, t])]
            state = cell(params["decoder"]["lstm_0"], state, np.concatenate([x, attended]))
            scores = np.exp((memory @ params["attention"]["kernel"]) @ state[1])
            context = (scores / scores.sum()) @ memory
            attended = np.concatenate([context, state[1]]) @ params["decoder"]["combine"]["kernel"]
            attended = np.tanh(attended)
            wanted = attended @ params["output"]["kernel"] + params["output"]["bias"]
            np.testing.assert_allclose(logits[row, t], wanted, rtol=1e-3, atol=1e-4)


def test_one_beam_takes_the_likeliest_symbol_each_time(variables):
    settings = {"length": 5, "begin": 1, "end": 2}
    found = translate(MODEL, variables, SOURCE, beam=1, **settings)
    # The decoder of training, from the start again for every symbol.
    apply = jax.jit(MODEL.apply)
    target = jnp.zeros((2, 6), int).at[:, 0].set(1)
    scores, ended = np.zeros(2), np.zeros(2, bool)
    for t in range(5):
        log_p = jax.nn.log_softmax(apply(variables, SOURCE, target))[:, t]
        symbols = jnp.where(ended, 0, log_p.argmax(-1))
        scores += np.where(ended, 0, log_p.max(-1))
        target = target.at[:, t + 1].set(symbols)
        ended |= np.asarray(symbols) == 2
    np.testing.assert_array_equal(found.tokens[:, 0], target[:, 1:])
    np.testing.assert_allclose(found.scores[:, 0], scores, rtol=1e-4)
    # Of more beams, scores are those of training.
    wide = translate(MODEL, variables, SOURCE, beam=4, **settings)
    best = wide.tokens[:, 0]
    given = jnp.concatenate([jnp.ones((2, 1), int), best], 1)
    log_p = jax.nn.log_softmax(apply(variables, SOURCE, given))[:, :-1]
    each = jnp.take_along_axis(log_p, best[..., None], 2)[..., 0]
    counted = jnp.arange(5)[None] < wide.lengths[:, :1]
    np.testing.assert_allclose(jnp.where(counted, each, 0).sum(1), wide.scores[:, 0], rtol=1e-4)


def test_dropout_acts_in_training_only_and_the_width_is_even(variables):
    @jax.jit
    def apply(key):
        return MODEL.apply(variables, SOURCE, TARGET, train=True, rngs={"dropout": key})

    one, two = (apply(jax.random.key(i)) for i in (0, 1))
    assert not np.allclose(one, two)
    with pytest.raises(ValueError, match=r"hidden=5.*even"):
        Seq2Seq(11, 12, hidden=5).init(jax.random.key(0), SOURCE, TARGET)
