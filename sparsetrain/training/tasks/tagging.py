"""Tags of words: accuracy over all words."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain.data import buckets, conllu
from sparsetrain.data.conllu import Sentence, Treebank
from sparsetrain.data.tagging import NO_TAG, Tagged, prepare
from sparsetrain.training.tasks.task import Classification, Loaded

CORPUS = "ud-english-ewt"


@dataclasses.dataclass(frozen=True)
class Tagging(Classification):
    """Batches are words int32[B, T], 0 behind the end, and tags int32[B, T], `NO_TAG` there.

    Attributes:
      symbols: size of the vocabulary.
      tags: number of logits a word.
      batch: B of training.
      length: T of training.
    """

    symbols: int
    tags: int
    batch: int
    length: int

    name: ClassVar[str] = "tagging"
    models: ClassVar[tuple[str, ...]] = ("tagger",)

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {"symbols": self.symbols, "tags": self.tags}

    @property
    def rows(self) -> int:
        return self.batch * self.length

    @property
    def evaluation_rows(self) -> int:
        return 250

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        return (batch[0],)

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        tags = batch[1]
        told = tags != NO_TAG
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.where(told, tags, 0))
        # Of words, so that a padded batch weighs its sentences by their lengths.
        return jnp.where(told, losses, 0).sum() / jnp.maximum(told.sum(), 1)


def synthetic(count: int = 24, symbols: int = 12, length: int = 6, tags: int = 3) -> Treebank:
    """Sentences whose words have one tag each; odd words hang on the word before, even ones on the first.

    Args:
      count: training sentences at least, as many as it takes to show all words; half of `count` validate and
        test.
      symbols: different words.
      length: of the longest sentence.
      tags: different tags.

    Returns:
      `Treebank`.

    Example:
      >>> first = synthetic(count=2, length=4).train[0]
      >>> first.words, first.tags, first.heads
      (('w0', 'w1', 'w2', 'w3'), ('T0', 'T1', 'T2', 'T0'), (0, 1, 1, 3))
    """
    chance = np.random.default_rng(0)
    shows = -(-symbols // length)

    def sentence(number: int) -> Sentence:
        if number < shows:
            words = np.arange(number * length, (number + 1) * length) % symbols
        else:
            words = chance.integers(0, symbols, chance.integers(2, length + 1))
        arcs = ("even" if word % 2 else "odd" for word in words[1:])
        return Sentence(
            tuple(f"w{word}" for word in words),
            tuple(f"T{word % tags}" for word in words),
            (0, *(place if word % 2 else 1 for place, word in enumerate(words[1:], start=1))),
            ("root", *arcs),
        )

    parts = (tuple(map(sentence, range(n))) for n in (max(count, shows), count // 2, count // 2))
    return Treebank(*parts)


def treebank(name: str, path: str | os.PathLike[str] | None, sizes: Mapping[str, Any]) -> Treebank:
    """Sentences by the name of their data set.

    Raises:
      ValueError: an unknown name.
    """
    if name not in (CORPUS, "synthetic"):
        raise ValueError(f"data.name={name!r} is no treebank; choose {CORPUS} or synthetic")
    return synthetic(**sizes) if name == "synthetic" else conllu.load(path)


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    length: int = 64,
    least: int = 2,
) -> Loaded:
    """Loads a treebank for tagging.

    Training sentences are cut behind `length` words, which a note counts; validation and test have rows as
    long as their longest sentence, so every word of theirs is scored.

    Args:
      name: "ud-english-ewt" or "synthetic".
      path: as there.
      batch_size: of a worker.
      workers: any.
      sizes: of `synthetic`.
      length: T of training.
      least: words that are rarer in training are unknown.

    Returns:
      `Loaded`.

    Raises:
      ValueError: length < 1, and what `data.conllu` and `data.tagging` raise.

    Example:
      >>> found = load("synthetic", None, batch_size=4, workers=1, sizes={}, length=5, least=1)
      >>> found.train[0].shape, found.test[0].shape, found.notes[0][:38]
      ((24, 5), (12, 6), '6 of 24 training sentences are longer ')
    """
    del workers
    if length < 1:
        raise ValueError(f"task.length={length}: must be at least 1, the words of a row")
    found = prepare(treebank(name, path, sizes), least)

    def matrices(part: Tagged, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        words, tags = ([row[:length] for row in rows] for rows in part)
        return buckets.padded(words, length), buckets.padded(tags, length, NO_TAG)

    long = [len(words) - length for words in found.train.words if len(words) > length]
    note = (
        f"{len(long):,} of {len(found.train.words):,} training sentences are longer than "
        f"task.length={length}; the {sum(long):,} words behind that are not trained on"
    )
    task = Tagging(len(found.words), len(found.tags), batch_size, length)
    return Loaded(
        task,
        matrices(found.train, length),
        matrices(found.validation),
        matrices(found.test),
        (note,) if long else (),
    )
