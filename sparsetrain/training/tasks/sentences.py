"""Classes of sentences: accuracy on one fold of a cross-validation."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import optax

from sparsetrain.data import sentences
from sparsetrain.training.tasks.task import Classification, Loaded


@dataclasses.dataclass(frozen=True)
class Sentences(Classification):
    """Batches are words int32[B, T], 0 behind the end, and labels int32[B].

    Attributes:
      symbols: size of the vocabulary.
      classes: number of logits.
    """

    symbols: int
    classes: int

    name: ClassVar[str] = "sentences"
    models: ClassVar[tuple[str, ...]] = ("text_cnn",)

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {"symbols": self.symbols, "classes": self.classes}

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        return (batch[0],)

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()


def synthetic(count: int = 40, symbols: int = 12, length: int = 6) -> sentences.Sentences:
    """Sentences whose class is that of most of their words.

    Args:
      count: sentences of both classes.
      symbols: different words.
      length: of the longest sentence.

    Returns:
      `sentences.Sentences`.

    Example:
      >>> found = synthetic(count=4, symbols=5, length=3)
      >>> found.labels.tolist(), found.words[0]
      ([0, 0, 1, 1], ('w2', 'w2', 'w2'))
    """
    chance = np.random.default_rng(0)
    words, labels = [], np.sort(np.arange(count) % 2).astype(np.int32)
    for label in labels:
        size = int(chance.integers(3, length + 1))
        drawn = 2 * chance.integers(0, symbols // 2, size) + label
        words.append(tuple(f"w{word}" for word in drawn))
    return sentences.Sentences(tuple(words), labels)


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    fold: int = 0,
    folds: int = 10,
    fold_seed: int = 0,
    least: int = 1,
) -> Loaded:
    """Loads a data set of sentences, one fold of it held out.

    The mean of ten runs that the papers report is that of `task.fold` 0 to 9. Nothing is cut: rows are as long
    as the longest sentence.

    Args:
      name: of `data.sentences.load`, or "synthetic".
      path: as there.
      batch_size: any.
      workers: any.
      sizes: of `synthetic`.
      fold: which fold is tested, from 0.
      folds: number of them.
      fold_seed: of their permutation.
      least: words that are rarer in training are unknown.

    Returns:
      `Loaded`.

    Example:
      >>> found = load("synthetic", None, batch_size=4, workers=1, sizes={}, fold=3)
      >>> found.train[0].shape, found.test[1].shape
      ((33, 6), (4,))
    """
    del batch_size, workers
    found = synthetic(**sizes) if name == "synthetic" else sentences.load(name, path)
    parts = sentences.prepare(found, fold, folds, fold_seed, least)
    train, validation, test = (tuple(part) for part in parts[1:])
    task = Sentences(len(parts.vocabulary), int(found.labels.max()) + 1)
    return Loaded(task, train, validation, test)
