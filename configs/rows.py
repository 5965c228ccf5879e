"""What the configs of tables share: a row is asked for by name, behind a colon.

    python -m experiments.main --config=configs/msbp_table2.py:pos_msbp --workdir=runs/pos_msbp
    python -m experiments.main --config=configs/msbp_table2.py:pos_msbp_small --workdir=runs/pos_small

Each row has the paper's settings. With `_small` behind its name it is the variant that runs on a small machine with
the data sets in $SPARSETRAIN_DATA: the same method on a smaller model, for fewer epochs, often on other data. A row
whose data the loop cannot hold or read is refused when it starts, with a sentence that says so; its settings are held
to the models all the same (tests/experiments/tables_test.py)."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections

from configs import digits

SMALL = "_small"
ADAM = {"name": "adam", "learning_rate": 1e-3}
# Sizes of synthetic images with the shapes of a data set.
MNIST = {"side": 28, "channels": 1, "classes": 10}
CIFAR = {"side": 32, "channels": 3, "classes": 10}
IMAGENET = {"side": 224, "channels": 3, "classes": 1000}
# A row's config, given whether it is the small one.
Row = Callable[[bool], ml_collections.ConfigDict]


def chosen(row: str, rows: Mapping[str, Row]) -> ml_collections.ConfigDict:
    """The config of a row.

    Args:
      row: its name, perhaps with `_small` behind it.
      rows: name -> row.

    Raises:
      ValueError: no such row; the message lists those there are.

    Example:
      >>> chosen("b", {"a": lambda small: 1})
      Traceback (most recent call last):
          ...
      ValueError: row 'b' is none of a: write one behind the file and a colon, with _small for the small variant
    """
    name = row.removesuffix(SMALL)
    if name not in rows:
        raise ValueError(
            f"row {row!r} is none of {', '.join(rows)}: write one behind the file and a colon, with {SMALL} "
            "for the small variant"
        )
    return rows[name](row.endswith(SMALL))


def config(
    task: str | Mapping[str, Any],
    data: str,
    batch_size: int,
    model: Mapping[str, Any],
    *,
    epochs: int,
    optimizer: Mapping[str, Any] = ADAM,
    sizes: Mapping[str, Any] | None = None,
) -> ml_collections.ConfigDict:
    """A config without levers.

    Args:
      task: name, or name and settings.
      data: name of the data set.
      batch_size: of a worker.
      model: name and fields.
      epochs: in all.
      optimizer: see `training.optimizers.make`.
      sizes: of synthetic examples with the data set's shapes, for `data.name=synthetic`.
    """
    config = digits.get_config()
    config.task = ml_collections.ConfigDict({"name": task} if isinstance(task, str) else dict(task))
    config.epochs, config.angle_examples, config.checkpoint_every = epochs, 0, 1
    config.data.name, config.data.batch_size = data, batch_size
    config.data.sizes = ml_collections.ConfigDict(dict(sizes or {}))
    config.model = ml_collections.ConfigDict(dict(model))
    config.optimizer = ml_collections.ConfigDict(dict(optimizer))
    config.backward.rule = "dense"
    return config


def thinned(
    config: ml_collections.ConfigDict, rule: str, layers: str, density: float, decay: float = 0.0
) -> ml_collections.ConfigDict:
    """With a backward rule: "dense", "sbp" or "msbp"."""
    names = {"dense": "dense", "sbp": "top_k", "msbp": "memorized_top_k"}
    config.backward.rule, config.backward.layers = names[rule], layers
    config.backward.density, config.backward.decay = density, decay
    return config


def exchanged(
    config: ml_collections.ConfigDict, workers: int, name: str, **settings: Any
) -> ml_collections.ConfigDict:
    """With workers that exchange what a compressor leaves of each update."""
    config.workers = workers
    with config.compress.ignore_type():
        config.compress.update({"name": name, **settings})
    return config


def masked(
    config: ml_collections.ConfigDict, name: str, **settings: Any
) -> ml_collections.ConfigDict:
    """With masks."""
    with config.masks.ignore_type():
        config.masks.update({"name": name, **settings})
    return config


def budget(
    config: ml_collections.ConfigDict, steps: int, per_epoch: int
) -> ml_collections.ConfigDict:
    """Ends after so many steps; epochs are as many as it takes."""
    config.steps, config.epochs = steps, math.ceil(steps / per_epoch)
    return config


def product(*parts: Iterable[str]) -> list[tuple[str, ...]]:
    """All combinations, the last part running fastest.

    Example:
      >>> product(["a"], ["b", "c"])
      [('a', 'b'), ('a', 'c')]
    """
    found: list[tuple[str, ...]] = [()]
    for part in map(list, parts):
        found = [(*head, name) for head in found for name in part]
    return found
