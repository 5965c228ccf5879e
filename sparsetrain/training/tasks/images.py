"""Classes of images: accuracy."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import data
from sparsetrain.data import Dataset, Split
from sparsetrain.training.tasks.task import Classification, Loaded


def pixels(images: jax.Array) -> jax.Array:
    """uint8 [B, H, W, C] -> float32 in [0, 1]; kept as bytes, data take a quarter of the memory."""
    return images.astype(jnp.float32) / 255.0


@dataclasses.dataclass(frozen=True)
class Images(Classification):
    """Batches are `Split`s: images uint8[B, H, W, C] and labels int32[B].

    Attributes:
      classes: number of logits.
      label_smoothing: share of the probability that goes evenly to all classes in training.
      mixup: both parameters of the beta distribution of the share that an example leaves to another one; 0 for
        none.
      flips: whether every other image is mirrored in training.
      shift: pixels by which images are moved at most in training, with black behind.
    """

    classes: int
    label_smoothing: float = 0.0
    mixup: float = 0.0
    flips: bool = False
    shift: int = 0

    name: ClassVar[str] = "images"
    models: ClassVar[tuple[str, ...]] = ("lenet5", "mlp", "resnet", "resnet50", "vgg16")

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {"classes": self.classes}

    def inputs(self, batch: Split) -> tuple[Any, ...]:
        images = jnp.asarray(batch[0])
        return (images if self.mixup and images.dtype == jnp.float32 else pixels(images),)

    @property
    def augments(self) -> bool:
        return bool(self.mixup or self.flips or self.shift)

    def augmented(self, batch: Any, key: jax.Array) -> Any:
        """Images moved, mirrored and mixed; mixed ones are floats, and their labels shares of the classes.

            x <- s x + (1 - s) x',    y <- s y + (1 - s) y',    s ~ Beta(mixup, mixup), one a batch

        x' is another example of the batch.

        Reference: Zhang et al., mixup: Beyond Empirical Risk Minimization (arXiv 1710.09412).
        """
        images, labels = batch
        keys = jax.random.split(key, 4)
        if self.flips:
            turned = jax.random.bernoulli(keys[0], shape=(len(images), 1, 1, 1))
            images = jnp.where(turned, images[:, :, ::-1], images)
        if self.shift:
            edge = (self.shift, self.shift)
            wide = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
            places = jax.random.randint(keys[1], (len(images), 2), 0, 2 * self.shift + 1)
            size = images.shape[1:]
            images = jax.vmap(
                lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), size)
            )(wide, places)
        if not self.mixup:
            return images, labels
        share = jax.random.beta(keys[2], self.mixup, self.mixup)
        other = jax.random.permutation(keys[3], len(images))
        images, shares = pixels(images), jax.nn.one_hot(labels, self.classes)
        return (
            share * images + (1 - share) * images[other],
            share * shares + (1 - share) * shares[other],
        )

    def loss(self, outputs: Any, batch: Split) -> jax.Array:
        labels = batch[1]
        if labels.ndim == 2 or self.label_smoothing:
            shares = jax.nn.one_hot(labels, self.classes) if labels.ndim == 1 else labels
            shares = optax.smooth_labels(shares, self.label_smoothing)
            return optax.softmax_cross_entropy(outputs, shares).mean()
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def synthetic(
    count: int = 24, side: int = 8, channels: int = 1, classes: int = 3, seed: int = 0
) -> Dataset:
    """Noise with a bright square whose place is the class.

    Args:
      count: training examples; half as many validate and test.
      side: H and W.
      channels: C.
      classes: C.
      seed: of the noise.

    Returns:
      `Dataset`.

    Example:
      >>> synthetic(count=4).train.images.shape
      (4, 8, 8, 1)
    """
    chance = np.random.default_rng(seed)

    def split(count: int) -> Split:
        labels = (np.arange(count) % classes).astype(np.int32)
        labels[-1] = (
            classes - 1
        )  # However few there are, the number of classes can be read off them.
        images = chance.integers(0, 128, (count, side, side, channels), np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label) * 2 % (side * side // 4), side // 2)
            image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 255
        return Split(images, labels)

    return Dataset(split(count), split(count // 2), split(count // 2))


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    flips: bool = False,
    shift: int = 0,
) -> Loaded:
    """Loads images for the loop.

    Args:
      name: of `data.load`, or "synthetic".
      path: as there.
      batch_size: of a worker; any.
      workers: any.
      sizes: of `synthetic`.
      label_smoothing, mixup, flips, shift: see `Images`.

    Returns:
      `Loaded`.

    Example:
      >>> found = load("synthetic", None, batch_size=4, workers=1, sizes={"classes": 5})
      >>> found.task.classes, found.examples
      (5, 24)
    """
    del batch_size, workers
    found = synthetic(**sizes) if name == "synthetic" else data.load(name, path=path)
    classes = int(found.train.labels.max()) + 1
    task = Images(classes, label_smoothing, mixup, flips, shift)
    return Loaded(task, found.train, found.validation, found.test)
