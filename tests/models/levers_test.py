"""Every model, tiny, learns its batch by heart while all three levers thin its training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward, compress, masks, models, tree
from sparsetrain.models import boxes, detection
from tests.models.start import start

STEPS = 40
KEYS = [jax.random.key(i) for i in range(3)]


def symbols(key: int, *shape: int, below: int = 7) -> jax.Array:
    """No padding, which is 0."""
    return jax.random.randint(KEYS[key], shape, 1, below)


def images(size: int) -> jax.Array:
    return jax.random.normal(KEYS[0], (4, size, size, 3))


def labels(*shape: int) -> jax.Array:
    return jax.random.randint(KEYS[1], shape, 0, 3)


class Case(NamedTuple):
    """A tiny model and its batch.

    Attributes:
      model: its last layer has three outputs or more.
      inputs: of its call.
      targets: int, of each of its logits' rows.
      layers: expression of the kernels whose backward pass is thinned.
      dense: expression of what is never masked.
      rows: that reach a layer in a step, where it is called several times.
      rule: of its backward pass.
      loss: (outputs, targets) -> scalar.
    """

    model: nn.Module
    inputs: tuple[Any, ...]
    targets: Any
    layers: str
    dense: str = r"output/kernel"
    rows: int | None = None
    rule: Any = backward.memorized_top_k(density=0.25, decay=0.5)
    loss: Callable[[Any, Any], jax.Array] = lambda logits, targets: (
        optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    )


def first(outputs: Any, targets: jax.Array) -> jax.Array:
    """Loss of models that return a state as well."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs[0], targets).mean()


def multibox(outputs: Any, targets: Any) -> jax.Array:
    return detection.multibox_loss(*outputs, *targets)


def objects() -> Any:
    """One in each image, matched with the default boxes of maps of 4 x 4 and 2 x 2 cells."""
    defaults = boxes.default_boxes((4, 2), (8, 16), (8, 16, 24), ((2,), (2,)), image=32)
    corners = np.array([[[x, x, x + 0.4, x + 0.3]] for x in (0.0, 0.2, 0.4, 0.6)], np.float32)
    return jax.vmap(boxes.match, (0, 0, None))(corners, 1 + np.arange(4)[:, None] % 2, defaults)


CHAR_LSTM = models.CharLSTM(7, embedding=8, hidden=8, layers=1)
WORD_LSTM = models.WordLSTM(7, hidden=8, layers=1, dropout=0.0, scale=0.3)
CASES = {
    "MLP": Case(models.MLP(hidden=(16,), classes=3), (images(4),), labels(4), r"hidden_0/kernel"),
    "LeNet5": Case(
        models.LeNet5(3, channels=(2, 4), hidden=16),
        (images(16),),
        labels(4),
        r"(conv_1|hidden)/kernel",
        r"conv_0/kernel|output/kernel",
        # Pooling passes back a quarter of what comes, so fewer are kept.
        rule=backward.memorized_top_k(density=0.1, decay=0.5),
    ),
    "ResNet": Case(
        models.ResNet(1, 3, width=4),
        (images(8),),
        labels(4),
        r"block_0/conv_\d/kernel",
        r"conv/kernel|output/kernel",
    ),
    "ResNet50": Case(
        models.ResNet50((1,), 3, width=4),
        (images(16),),
        labels(4),
        r"stage_0_block_0/conv_[12]/kernel",
        r"conv/kernel|output/kernel",
    ),
    "CharLSTM": Case(
        CHAR_LSTM,
        (symbols(0, 4, 5), CHAR_LSTM.initial(4)),
        symbols(1, 4, 5),
        r"lstm_0/input/kernel",
        r"embedding/embedding|output/kernel",
        rows=20,
        loss=first,
    ),
    "Transformer": Case(
        models.Transformer(7, width=8, feed=16, heads=2, layers=1, dropout=0.0),
        (symbols(0, 4, 4), symbols(1, 4, 5)),
        symbols(2, 4, 5),
        r"decoder_0/(fc1|cross/v)/kernel",
        r"embedding/embedding",
        rows=20,
    ),
    "TextCNN": Case(
        models.TextCNN(7, 3, embedding=8, maps=4, dropout=0.0),
        (symbols(0, 4, 6),),
        labels(4),
        r"conv_\d/kernel",
        r"embedding/embedding|output/kernel",
        # The maximum over time passes back one place a map: fewer than a quarter of all, so that
        # nothing would be left to remember.
        rule=backward.unified_top_k(density=0.25, decay=0.5),
    ),
    "Tagger": Case(
        models.Tagger(7, 3, embedding=8, hidden=8, layers=1, dropout=0.0),
        (symbols(0, 4, 5),),
        labels(4, 5),
        r"(forward|backward)_0/ho/kernel",
        r"embedding/embedding|output/kernel",
        rows=20,
    ),
    "TransitionParser": Case(
        models.TransitionParser(7, 5, 3, embedding=4, hidden=16, dropout=0.0, activation="tanh"),
        (symbols(0, 4, 3), symbols(2, 4, 3, below=5)),
        labels(4),
        r"hidden/kernel",
        r"(words|tags)/embedding|output/kernel",
    ),
    "WordLSTM": Case(
        WORD_LSTM,
        (symbols(0, 4, 5), WORD_LSTM.initial(4)),
        symbols(1, 4, 5),
        r"lstm_\d/.*",
        r"embedding/embedding|output/kernel",
        rows=20,
        loss=first,
    ),
    "Seq2Seq": Case(
        models.Seq2Seq(7, 7, 8, 8, layers=1, dropout=0.0, cell=nn.OptimizedLSTMCell),
        (symbols(0, 4, 4), symbols(1, 4, 5)),
        symbols(2, 4, 5),
        r"(attention|decoder/combine)/kernel",
        r"(?!decoder/.*kernel).*",
        rows=20,
    ),
    "DecoderLM": Case(
        models.DecoderLM(7, width=8, feed=16, heads=2, layers=1),
        (symbols(0, 4, 5),),
        symbols(1, 4, 5),
        r"decoder_0/(fc1|attention/v)/kernel",
        r"embedding/embedding",
        rows=20,
    ),
    "VGG16": Case(
        models.VGG16(3, stages=(1, 1), width=4, hidden=(8,), dropout=0.0),
        (images(8),),
        labels(4),
        r"(conv_\d|hidden_\d)/kernel",
        r"conv_0/kernel|output/kernel",
    ),
    "SSD300": Case(
        models.SSD300(3, stages=(1,), width=4, extras=(2,), boxes=(4, 4)),
        (images(16),),
        objects(),
        r"(stage_0_block_0/conv_1|extra_0_conv_1)/kernel",
        r"conv/kernel|(offsets|logits)_./kernel",
        loss=multibox,
    ),
    "PointNet2": Case(
        models.PointNet2(
            parts=3,
            categories=2,
            levels=((8, ((1.5, 6, (8,)),)),),
            last=(8,),
            back=((8,), (8,)),
            head=8,
            dropout=0.0,
        ),
        (jax.random.normal(KEYS[0], (4, 16, 3)), jnp.arange(4) % 2),
        labels(4, 16),
        r"(down_0_0|up_0)/dense_0/kernel",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_tiny_one_trains_with_all_three_levers(name):
    case = CASES[name]
    model = backward.linen.sparsify(case.model, {case.layers: case.rule}, rows=case.rows)
    # Flat, for the sake of the compiler: these models have many small leaves.
    sending = optax.flatten(optax.chain(compress.exchange(compress.top_k(0.1)), optax.adam(0.05)))
    masked = masks.static(sending, 0.5, key=KEYS[2], dense=f"params/({case.dense})")
    tx = backward.carry_memory(masked)

    @jax.jit
    def train(variables):
        state = tx.init(variables)
        variables = masks.apply(variables, state)

        def loss(variables):
            states = [name for name in variables if name not in ("params", "memory")]
            outputs = model.apply(variables, *case.inputs, train=True, mutable=states)
            return case.loss(outputs[0], case.targets)

        def step(carry, _):
            variables, state = carry
            value, grads = jax.value_and_grad(loss)(variables)
            moves, state = tx.update(grads, state, variables)
            return (optax.apply_updates(variables, moves), state), value

        return jax.lax.scan(step, (variables, state), length=STEPS)

    (variables, state), losses = train(start(model, *case.inputs))
    assert np.isfinite(losses).all()
    assert losses[-3:].mean() < 0.8 * losses[0], losses
    for path, memory in zip(
        tree.paths(variables["memory"]), jax.tree.leaves(variables["memory"]), strict=True
    ):
        assert memory.any(), path
    leaves = dict(zip(tree.paths(variables), jax.tree.leaves(variables), strict=True))
    dead = masks.find(state).masks
    assert dead
    for path, live in dead.items():
        assert live.mean() == pytest.approx(0.5, abs=0.03)
        assert not leaves[path][~live].any(), path
