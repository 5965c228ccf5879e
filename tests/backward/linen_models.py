"""Flax models that know nothing of us: the ways in which a layer can be used."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(64, name="hidden")(x))
        return nn.Dense(10, name="output")(x)


class Stateful(nn.Module):
    """Batch norm and dropout around the hidden layer."""

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Dense(64, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.2, deterministic=not train)(nn.relu(x))
        return nn.Dense(10, name="output")(x)


class Remat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10, name="output")(nn.relu(nn.remat(nn.Dense)(64, name="hidden")(x)))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return nn.relu(nn.Dense(20, name="hidden")(x)), None


class Scanned(nn.Module):
    """Three stacked layers by nn.scan."""

    block: type = Block

    @nn.compact
    def __call__(self, x):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x, _ = nn.scan(self.block, length=3, **axes)(name="blocks")(x, None)
        return nn.Dense(10, name="output")(x)


class RematScanned(Scanned):
    block: type = nn.remat(Block)


class Ensemble(nn.Module):
    """Four hidden layers side by side by nn.vmap."""

    @nn.compact
    def __call__(self, x):
        layers = nn.vmap(
            nn.Dense,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=1,
            axis_size=4,
        )
        return nn.Dense(10, name="output")(nn.relu(layers(16, name="hidden")(x)).mean(1))


class Setup(nn.Module):
    """Layers made in setup."""

    def setup(self):
        self.hidden = nn.Dense(64)
        self.output = nn.Dense(10)

    def __call__(self, x):
        return self.output(nn.relu(self.hidden(x)))


class Shared(nn.Module):
    """One layer called twice."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.Dense(20, name="hidden")
        return nn.Dense(10, name="output")(hidden(nn.relu(hidden(x))))


class Recurrent(nn.Module):
    cell: type = nn.LSTMCell

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10, name="output")(nn.RNN(self.cell(16), name="hidden")(x)[:, -1])


class Bidirectional(nn.Module):
    @nn.compact
    def __call__(self, x):
        forward, backward = nn.RNN(nn.LSTMCell(8)), nn.RNN(nn.GRUCell(8))
        return nn.Dense(10, name="output")(nn.Bidirectional(forward, backward)(x)[:, -1])


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.MultiHeadDotProductAttention(2, name="hidden")(x)
        return nn.Dense(10, name="output")(x.mean(1))


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), name="hidden")(x))
        return nn.Dense(10, name="output")(x.mean((1, 2)))


KEY = jax.random.key(0)
ROWS = jax.random.normal(KEY, (32, 20))
SEQUENCES = jax.random.normal(KEY, (8, 5, 16))
IMAGES = jax.random.normal(KEY, (8, 6, 6, 3))

HIDDEN = r".*hidden.*/kernel"
CELLS = r".*Cell.*/kernel"
# name -> (model, inputs, pattern, rows): rows where a call cannot know them
MODELS = {
    "mlp": (Mlp(), ROWS, HIDDEN, None),
    "batch norm and dropout": (Stateful(), ROWS, HIDDEN, None),
    "remat": (Remat(), ROWS, HIDDEN, None),
    "scan": (Scanned(), ROWS, HIDDEN, None),
    "remat scan": (RematScanned(), ROWS, HIDDEN, None),
    "vmap": (Ensemble(), ROWS, HIDDEN, None),
    "setup": (Setup(), ROWS, HIDDEN, None),
    "shared": (Shared(), ROWS, HIDDEN, 64),
    "lstm": (Recurrent(), SEQUENCES, CELLS, 40),
    "gru": (Recurrent(nn.GRUCell), SEQUENCES, CELLS, 40),
    "bidirectional": (Bidirectional(), SEQUENCES, CELLS, 40),
    "attention": (Attention(), SEQUENCES, HIDDEN, None),
    "convolution": (Convolutional(), IMAGES, HIDDEN, None),
}


def labels(inputs):
    return jnp.arange(inputs.shape[0]) % 10
