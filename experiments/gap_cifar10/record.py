"""One run to one result file: never a partial one, never a finished one again."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.gap_cifar10 import methods
from experiments.gap_cifar10.runs import SETTINGS, Run
from experiments.grid import write_once
from sparsetrain import data, masks
from sparsetrain.data import cifar10_jpeg

MEAN, DEVIATION = 120.0, 64.0
EVALUATED = 500  # images at once


def load(run: Run) -> data.Dataset:
    """CIFAR-10 in JPEG, or the first images of every class of it."""
    return _loaded(run.setting)


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> data.Dataset:
    setting = SETTINGS[name]
    folder = Path(os.environ.get("SPARSETRAIN_DATA", "")) / cifar10_jpeg.NAME
    found = cifar10_jpeg.load(folder, setting.train_each)
    if setting.test_each is None:
        return found
    count = len(cifar10_jpeg.CLASSES) * setting.test_each
    return found._replace(test=data.Split(*(part[:count] for part in found.test)))


def record(run: Run, out: Path, load: Callable[[Run], data.Dataset] = load) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      load: gives the data; the tests take fewer.

    Returns:
      Whether there was something to do.
    """
    return write_once(run, out, lambda: train(run, load(run)))


def train(run: Run, dataset: data.Dataset) -> dict[str, Any]:
    """Curves, and test accuracy at the end and at the best validation accuracy while all is sparse.

    Args:
      run: what to train.
      dataset: images and labels.

    Returns:
      The fields of a result file that are measured.
    """
    setting, model = SETTINGS[run.setting], methods.network(run)
    starts, draw = jax.random.split(jax.random.key(run.seed))
    variables = jax.jit(model.init)(starts, _scaled(dataset.train.images[:1]))
    params, statistics = variables["params"], variables["batch_stats"]
    tx = methods.build(run, draw)
    state = tx.init(params)
    if run.method != "dense":
        params = masks.apply(params, state)
    counted = masks.flops(
        lambda p, x: model.apply({"params": p, "batch_stats": statistics}, x),
        params,
        _scaled(dataset.train.images[:1]),
    )

    # Steps are called one by one: on a CPU a convolution inside a loop is far slower than outside.
    @jax.jit
    def step(carry: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        params, statistics, state = carry

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, changed = model.apply(
                {"params": params, "batch_stats": statistics},
                _scaled(images),
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), changed["batch_stats"]

        (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), statistics, state), value

    @jax.jit
    def right(params: Any, statistics: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = model.apply({"params": params, "batch_stats": statistics}, _scaled(images))
        return jnp.sum(jnp.argmax(jnp.asarray(logits), axis=-1) == labels)

    def accuracy(carry: Any, split: data.Split) -> float:
        found = 0
        for at in range(0, len(split.labels), EVALUATED):
            part = slice(at, at + EVALUATED)
            found += int(right(carry[0], carry[1], split.images[part], split.labels[part]))
        return found / len(split.labels)

    carry, losses = (params, statistics, state), []
    names = ("update", "loss", "validation", "test", "density")
    curves: dict[str, list[float]] = {name: [] for name in names}
    for number, (images, labels) in enumerate(batches(dataset.train, run), 1):
        carry, value = step(carry, images, labels)
        losses.append(value)
        if number in setting.stops():
            found = [accuracy(carry, split) for split in (dataset.validation, dataset.test)]
            found.append(masks.report(carry[2]).get("density", 1.0))
            line = [number, float(jnp.mean(jnp.stack(losses))), *found]
            for name, item in zip(names, line, strict=True):
                curves[name].append(item)
            losses = []
    sparse = [i for i, each in enumerate(curves["density"]) if abs(each - 1 + run.sparsity) < 0.005]
    best = max(sparse, key=lambda i: curves["validation"][i])
    kept = {} if run.method == "dense" else masks.find(carry[2]).masks
    shares = {path: float(np.mean(mask)) for path, mask in kept.items()}
    return {
        "summary": {
            "test_accuracy": curves["test"][-1],
            "test_accuracy_at_best": curves["test"][best],
            "best_update": curves["update"][best],
            "density": curves["density"][-1],
            "mflops": counted.sparse(shares) / 1e6,
        },
        "curves": curves,
        "setting_of_run": dataclasses.asdict(setting),
    }


def batches(split: data.Split, run: Run) -> Any:
    """Batches of all updates of a run: every epoch in an order of its own.

    Args:
      split: images uint8[N, 32, 32, 3] and labels.
      run: its seed fixes everything.

    Yields:
      (uint8[B, 32, 32, 3], int32[B]).
    """
    setting, generator = SETTINGS[run.setting], np.random.default_rng(run.seed)
    left, steps = setting.updates, data.steps_per_epoch(len(split.labels), setting.batch)
    while left:
        order = generator.permutation(len(split.labels))
        for number in range(min(steps, left)):
            places = order[number * setting.batch : (number + 1) * setting.batch]
            images = split.images[places]
            yield shifted(images, generator) if setting.augment else images, split.labels[places]
        left -= min(steps, left)


def shifted(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Moves each image by up to four pixels, zeros coming in, and mirrors one half of them.

    Args:
      images: uint8[B, H, W, C].
      generator: of the draws.

    Returns:
      uint8[B, H, W, C].

    Example:
      >>> shifted(np.ones([5, 8, 8, 3], np.uint8), np.random.default_rng(0)).shape
      (5, 8, 8, 3)
    """
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    rows, columns = generator.integers(0, 9, (2, count, 1))
    across = columns + np.arange(width)
    across = np.where(generator.random((count, 1)) < 0.5, across[:, ::-1], across)
    down = rows + np.arange(height)
    return padded[np.arange(count)[:, None, None], down[:, :, None], across[:, None, :]]


def _scaled(images: Any) -> jax.Array:
    return (jnp.asarray(images).astype(jnp.float32) - MEAN) / DEVIATION
