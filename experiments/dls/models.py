"""The networks of the grid: LeNet5 on MNIST and ResNet-20 on CIFAR-10."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.sbc_lenet_mnist import batch_last
from experiments.sbc_lenet_mnist.record import load as mnist
from sparsetrain import data
from sparsetrain.data import cifar10_jpeg
from sparsetrain.models import LeNet5, ResNet

TRAIN_EACH = 1200  # images of a class; a short run sees no more
TEST_EACH = 50


class Model(NamedTuple):
    """A network with its data.

    Attributes:
      title: heading of its tables.
      init: key -> parameters.
      loss: (params, (images uint8, labels)) -> scalar.
      accuracy: (params, images, labels) -> share of right classes.
      load: gives the data.
    """

    title: str
    init: Callable[[jax.Array], Any]
    loss: Callable[..., jax.Array]
    accuracy: Callable[..., jax.Array]
    load: Callable[[], data.Dataset]


# Group norms: clients that average batch statistics would be a question of its own.
_RESNET = ResNet(norm="group")


def _logits(params: Any, images: jax.Array) -> jax.Array:
    found = _RESNET.apply({"params": params}, (images.astype(jnp.float32) - 120.0) / 64.0)
    return jnp.asarray(found)


def _loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    images, labels = batch
    logs = jax.nn.log_softmax(_logits(params, images))
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


def _accuracy(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(jnp.argmax(_logits(params, images), axis=1) == labels)


def cifar10() -> data.Dataset:
    """The first images of every class of CIFAR-10 in JPEG: 11,000 to train on, 500 to test."""
    found = cifar10_jpeg.load(
        Path(os.environ.get("SPARSETRAIN_DATA", "")) / cifar10_jpeg.NAME, TRAIN_EACH
    )
    tested = data.Split(*(part[: 10 * TEST_EACH] for part in found.test))
    return found._replace(test=tested)


MODELS = {
    "lenet5": Model(
        "LeNet5 on MNIST",
        lambda key: LeNet5().init(key, jnp.zeros([1, 28, 28, 1]))["params"],
        batch_last.loss,
        batch_last.accuracy,
        mnist,
    ),
    "resnet20": Model(
        "ResNet-20 on CIFAR-10",
        lambda key: _RESNET.init(key, jnp.zeros([1, 32, 32, 3]))["params"],
        _loss,
        _accuracy,
        cifar10,
    ),
}
