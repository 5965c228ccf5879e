"""What is learned: images by a small fully connected network, with every client's own examples."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.flower import split
from experiments.flower.client import Client
from experiments.flower.runs import Run
from sparsetrain import data
from sparsetrain.models import MLP

MODEL = MLP(hidden=(200, 200))
MINIMUM = 10  # examples of a client
_BATCHES = 3  # sets these draws apart from those of `attendance`


class Problem:
    """Data, their split and the network of one run."""

    def __init__(self, run: Run, dataset: data.Dataset):
        """See class.

        Args:
          run: says how.
          dataset: images and labels; the validation examples are not used.
        """
        self._run, self._train, self._test = run, dataset.train, dataset.test
        labels = dataset.train.labels
        self.owned = (
            split.iid(len(labels), run.clients, run.seed)
            if run.alpha is None
            else split.dirichlet(labels, run.clients, run.alpha, run.seed, MINIMUM)
        )

    def start(self) -> Any:
        """The weights of version 0."""
        return start(self._train.images.shape[1:], self._run.seed)

    def batches(self, client: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What a client sees in one turn.

        Its own examples in new orders, one order after the other until there are enough.

        Args:
          client: its number.
          number: of the round.

        Returns:
          (images float32[steps, B, H, W, C] in [0, 1], labels int32[steps, B]).
        """
        run, mine = self._run, self.owned[client]
        random = np.random.RandomState([_BATCHES, run.seed, number, client])
        wanted = run.steps * run.batch
        orders = [random.permutation(mine) for _ in range(-(-wanted // len(mine)))]
        chosen = np.concatenate(orders)[:wanted].reshape(run.steps, run.batch)
        return self._train.images[chosen] / np.float32(255), self._train.labels[chosen]

    def accuracy(self, weights: Any) -> float:
        """Share of test images that the weights get right."""
        return float(_accuracy(weights, self._test.images, self._test.labels))

    def client(self) -> Client:
        """The clients' common part; compiled once for all runs of this method."""
        run = self._run
        return client_of(run.method, run.learning_rate, self._train.images.shape[1:])


@functools.cache
def load(name: str) -> data.Dataset:
    """A data set, read once a process."""
    return data.load(name)


@functools.lru_cache(maxsize=2)
def problem_of(run: Run) -> Problem:
    """The problem of a run, made once as long as the run lasts."""
    return Problem(run, load(run.data))


@functools.cache
def client_of(method: str, learning_rate: float, shape: tuple[int, ...]) -> Client:
    """The programs of a method's clients."""
    like = jax.eval_shape(lambda: start(shape, 0))
    how = Run(method, None, 0.0, 0).how
    return Client(how, loss, optax.sgd(learning_rate), like)


def start(shape: tuple[int, ...], seed: int) -> Any:
    """Weights of an untrained network for images of a shape."""
    return MODEL.init(jax.random.key(seed), jnp.zeros((1, *shape)))["params"]


def loss(weights: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean cross entropy of a batch."""
    images, labels = batch
    logits: Any = MODEL.apply({"params": weights}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def _accuracy(weights: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits: Any = MODEL.apply({"params": weights}, images / jnp.float32(255))
    return jnp.mean(jnp.argmax(logits, -1) == labels)
