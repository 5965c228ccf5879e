"""What is trained: LeNet5 on MNIST, and a tree of 25M parameters whose gradients cost next to nothing."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sbc_lenet_mnist import batch_last
from sparsetrain import data
from sparsetrain.models import LeNet5

RATE = 0.1  # of SGD, in all methods alike
BATCH = 64  # images of one worker
STEPS = 200  # after which the loss is read
IMAGES = 1000  # of which it is the mean
LAYERS, WIDTH = 6, 2048
DRAWS = 2  # gradients of the tree, used in turn


class Workload(NamedTuple):
    """A model with its data.

    Attributes:
      params: NumPy arrays, the same in all processes.
      loss: (params, batch) -> scalar.
      batch: step -> this worker's batch, NumPy arrays with a leading axis of examples.
      distinct: number of batches after which they repeat.
      final_loss: params -> float; None where the loss means nothing.
      steps: of a run whose loss is read; 0 for as few as timing takes.
    """

    params: Any
    loss: Callable[[Any, Any], jax.Array]
    batch: Callable[[int], Any]
    distinct: int
    final_loss: Callable[[Any], float] | None = None
    steps: int = 0


def tree(worker: int) -> Workload:
    """25.2M parameters in six square matrices with biases, under gradients with heavy tails.

    The loss is linear, so that its gradient is the batch: a step spends its time on what is measured.

    Args:
      worker: number of this process.
    """
    shapes = {f"layer_{i}": {"kernel": (WIDTH, WIDTH), "bias": (WIDTH,)} for i in range(LAYERS)}
    params = jax.tree.map(lambda shape: np.zeros(shape, np.float32), shapes, is_leaf=_is_shape)

    @functools.cache
    def drawn(number: int) -> Any:
        rng = np.random.default_rng([worker, number])

        def draw(shape: tuple[int, ...]) -> np.ndarray:
            # Cubes of normal numbers: most are small, as of a gradient.
            return 1e-3 * rng.standard_normal((1, *shape), np.float32) ** 3

        return jax.tree.map(draw, shapes, is_leaf=_is_shape)

    def loss(params: Any, batch: Any) -> jax.Array:
        products = jax.tree.map(lambda p, g: jnp.vdot(p, g[0]), params, batch)
        return sum(jax.tree.leaves(products), jnp.float32(0))

    return Workload(params, loss, lambda step: drawn(step % DRAWS), DRAWS)


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)


def lenet(worker: int) -> Workload:
    """LeNet5 (Caffe's), every worker with batches of its own out of the same 55,000 images.

    Args:
      worker: number of this process.
    """
    train, _, test = data.load("mnist")
    variables = jax.eval_shape(LeNet5().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: _initial(rng, leaf.shape), variables["params"])

    def batch(step: int) -> Any:
        rows = np.random.default_rng([worker, step]).integers(0, len(train.labels), BATCH)
        return train.images[rows], np.asarray(train.labels[rows], np.int32)

    def final_loss(params: Any) -> float:
        held_out = test.images[:IMAGES], np.asarray(test.labels[:IMAGES], np.int32)
        return float(jax.jit(batch_last.loss)(params, held_out))

    return Workload(params, batch_last.loss, batch, STEPS, final_loss, STEPS)


def _initial(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform by Glorot; zeros for biases."""
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    window = int(np.prod(shape[:-2]))
    bound = np.sqrt(6 / (window * (shape[-2] + shape[-1])))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


WORKLOADS = {"lenet": lenet, "tree": tree}
