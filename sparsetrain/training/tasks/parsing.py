"""Transitions of a dependency parser: trained state by state, scored by the trees that it builds."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain.data import attachment, parsing
from sparsetrain.data.parser_features import WORDS
from sparsetrain.training.tasks import tagging
from sparsetrain.training.tasks.task import Loaded, Task

# Kinds of action: shift, then an arc to the left and one to the right for each relation.
KINDS = 3


@dataclasses.dataclass(frozen=True)
class Parsing(Task):
    """Batches are features int32[B, 48], actions int32[B] and legal kinds bool[B, 3]; see `data.parsing`.

    Actions that are not possible have no share of the probability, as in Chen and Manning.

    Attributes:
      words: size of the vocabulary of words.
      tags: of tags.
      relations: R.
    """

    words: int
    tags: int
    relations: int

    name: ClassVar[str] = "parsing"
    models: ClassVar[tuple[str, ...]] = ("transition_parser",)
    score: ClassVar[str] = "uas"

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {
            "words": self.words,
            "tags": self.tags,
            # 0 is "no such word".
            "labels": 1 + self.relations,
            "transitions": 1 + (KINDS - 1) * self.relations,
        }

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        return inputs(batch[0])

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        _, actions, legal = batch
        counts = np.array([1, self.relations, self.relations])
        possible = jnp.repeat(legal, counts, axis=1, total_repeat_length=int(counts.sum()))
        masked = jnp.where(possible, outputs, jnp.finfo(outputs.dtype).min / 2)
        return optax.softmax_cross_entropy_with_integer_labels(masked, actions).mean()


def inputs(features: Any) -> tuple[Any, ...]:
    """Features [B, 48] as the model takes them: words, their tags, relations.

    Example:
      >>> [part.shape for part in inputs(np.zeros([2, 48], np.int32))]
      [(2, 18), (2, 18), (2, 12)]
    """
    return features[:, :WORDS], features[:, WORDS : 2 * WORDS], features[:, 2 * WORDS :]


@functools.partial(jax.jit, static_argnums=0)
def action_scores(model: Any, variables: Any, features: jax.Array) -> jax.Array:
    """Features int32[B, 48] -> [B, 1 + 2 R]."""
    return model.apply(variables, *inputs(features))


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    least: int = 2,
    subtypes: bool = False,
    punctuation: bool = False,
    together: int = 512,
) -> Loaded:
    """Loads a treebank for parsing, with every state that the oracle comes through as an example.

    Trees that are not projective are not trained on, which a note counts; in validation and test they count.

    Args:
      name: "ud-english-ewt" or "synthetic".
      path: folder of the treebank, or None for the usual place.
      batch_size: any.
      workers: any.
      sizes: of `tagging.synthetic`.
      least: words that are rarer in training are unknown.
      subtypes: whether "nsubj:pass" is another relation than "nsubj".
      punctuation: whether it counts in UAS.
      together: sentences that are parsed at once.

    Returns:
      `Loaded`, without validation and test examples: "uas" and "las" are found by greedy parsing on the host.

    Example:
      >>> found = load("synthetic", None, batch_size=4, workers=1, sizes={}, least=1)
      >>> found.task, found.train[0].shape[1], found.validation is None
      (Parsing(words=15, tags=5, relations=3), 48, True)
    """
    del batch_size, workers
    found = parsing.prepare(tagging.treebank(name, path, sizes), least, subtypes)
    examples = parsing.examples(found, found.train)
    # They come state by state, and the first states of sentences say nothing: of some examples, the first ones
    # should be a sample.
    mixed = np.random.RandomState(0).permutation(len(examples.actions))
    train = tuple(part[mixed] for part in examples)
    crossing = int((~found.train.projective).sum())
    note = (
        f"{crossing:,} of {len(found.train.words):,} training trees are not projective and not trained on, "
        f"which leaves {len(train[1]):,} transitions"
    )

    def scores(model: Any, variables: Any, split: str) -> dict[str, float]:
        trees = getattr(found, split)

        def score(features: np.ndarray) -> np.ndarray:
            return np.asarray(action_scores(model, variables, features))

        heads, relations = parsing.parse(score, found, trees, together)
        right = attachment.attachment(found, trees, heads, relations, punctuation)
        return {"uas": right.unlabelled, "las": right.labelled}

    task = Parsing(len(found.words), len(found.tags), len(found.relations))
    return Loaded(task, train, None, None, (note,) if crossing else (), at_evaluation=scores)
