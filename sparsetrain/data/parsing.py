"""Dependency parsing: what a transition parser is trained on, and how it parses."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sparsetrain.data import arc_standard, vocabulary
from sparsetrain.data.conllu import Sentence, Treebank
from sparsetrain.data.parser_features import FEATURES, features
from sparsetrain.data.vocabulary import PAD, UNKNOWN, Vocabulary

ROOT = "<root>"


class Trees(NamedTuple):
    """Sentences in numbers, int32[n] of each.

    Attributes:
      words: by the vocabulary of words.
      tags: by that of tags.
      heads: 0..n.
      relations: by that of relations, -1 for one that training has not.
      projective: bool[N]; arc-standard cannot build the other trees.
    """

    words: tuple[np.ndarray, ...]
    tags: tuple[np.ndarray, ...]
    heads: tuple[np.ndarray, ...]
    relations: tuple[np.ndarray, ...]
    projective: np.ndarray


class Parsing(NamedTuple):
    """The task: what the numbers mean, and three parts.

    Attributes:
      words: padding (0), unknown (1), the root (2), then words.
      tags: padding (0), the root (1), then tags.
      relations: R relations.
      train, validation, test: the sentences.
    """

    words: Vocabulary
    tags: Vocabulary
    relations: Vocabulary
    train: Trees
    validation: Trees
    test: Trees

    @property
    def actions(self) -> int:
        """Number of actions, 1 + 2 R."""
        return 1 + 2 * len(self.relations)


class Examples(NamedTuple):
    """States on the way to the right trees, and what is right there.

    Attributes:
      features: int32[M, 48], see `parser_features.features`.
      actions: int32[M].
      legal: bool[M, 3], kinds of action that are possible.
    """

    features: np.ndarray
    actions: np.ndarray
    legal: np.ndarray


def prepare(treebank: Treebank, least: int = 2, subtypes: bool = False) -> Parsing:
    """Learns the vocabularies on the training sentences, and makes numbers of all.

    Args:
      treebank: sentences.
      least: words that are rarer in training are unknown.
      subtypes: whether "nsubj:pass" is another relation than "nsubj".

    Returns:
      `Parsing`.

    Raises:
      ValueError: a part has a tag that training has not, or no word is frequent enough.

    Example:
      >>> part = (Sentence(("We", "see"), ("PRON", "VERB"), (2, 0), ("nsubj", "root")),)
      >>> task = prepare(Treebank(part, part, part), least=1)
      >>> task.relations.symbols, task.actions, examples(task, task.train).actions.tolist()
      (('nsubj', 'root'), 5, [0, 0, 1, 4])
    """

    def names(sentence: Sentence) -> list[str]:
        if subtypes:
            return list(sentence.relations)
        return [name.partition(":")[0] for name in sentence.relations]

    train = treebank.train
    words = vocabulary.learn((s.words for s in train), least, special=(PAD, UNKNOWN, ROOT))
    tags = vocabulary.learn((s.tags for s in train), special=(PAD, ROOT))
    relations = vocabulary.learn(map(names, train), special=())

    def numbers(sentences: Sequence[Sentence]) -> Trees:
        return Trees(
            tuple(words.encode(sentence.words) for sentence in sentences),
            tuple(tags.encode(sentence.tags) for sentence in sentences),
            tuple(np.array(sentence.heads, np.int32) for sentence in sentences),
            tuple(
                np.array([relations.numbers.get(name, -1) for name in names(sentence)], np.int32)
                for sentence in sentences
            ),
            np.array([arc_standard.is_projective(sentence.heads) for sentence in sentences], bool),
        )

    return Parsing(words, tags, relations, *map(numbers, treebank))


def examples(task: Parsing, trees: Trees, together: int = 512) -> Examples:
    """Every state that the oracle comes through, 2 n of a sentence.

    Trees that are not projective are left out: no actions build them. `trees.projective` counts
    them.

    Args:
      task: the vocabularies.
      trees: training sentences.
      together: sentences that are worked on at once.

    Returns:
      `Examples`, in an order of no meaning.

    Raises:
      ValueError: no tree is projective, or one has a relation that has no number.
    """
    found = []
    kept = np.flatnonzero(trees.projective)
    if not len(kept):
        raise ValueError(f"none of {len(trees.words)} trees is projective: give other sentences")
    unnamed = [row for row in kept if (trees.relations[row] < 0).any()]
    if unnamed:
        raise ValueError(
            f"sentence {unnamed[0]} has a relation that training has not: give task.train"
        )
    for rows in _chunks(trees, kept, together):
        words, tags = _seen(task, trees, rows)
        heads = arc_standard.by_word([trees.heads[row] for row in rows])
        names = arc_standard.by_word([trees.relations[row] for row in rows])
        state = arc_standard.start([len(trees.words[row]) for row in rows])
        while not (done := state.finished).all():
            actions = arc_standard.oracle(state, heads, names, len(task.relations))
            legal = arc_standard.legal(state)
            seen = features(state, words, tags)
            found.append(Examples(seen[~done], actions[~done], legal[~done]))
            arc_standard.step(state, actions, len(task.relations))
    return Examples(*map(np.concatenate, zip(*found, strict=True)))


def parse(
    score: Callable[[np.ndarray], np.ndarray], task: Parsing, trees: Trees, together: int = 512
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Parses greedily: of the actions that are legal the one with the highest score, without return.

    Args:
      score: features int32[B, 48] -> scores float[B, 1 + 2 R]; B is always `together`, so a jitted
        function is compiled once.
      task: the vocabularies.
      trees: sentences; their heads and relations are not read.
      together: B, sentences that are parsed at once.

    Returns:
      Heads and relations of each sentence, int32[n].

    Example:
      >>> part = (Sentence(("We", "see"), ("PRON", "VERB"), (2, 0), ("nsubj", "root")),)
      >>> task = prepare(Treebank(part, part, part), least=1)
      >>> parse(lambda seen: np.tile([2.0, 0, 1, 0, 0], [len(seen), 1]), task, task.test)[0]
      (array([2, 0], dtype=int32),)
    """
    count = len(task.relations)
    heads, relations = ([np.empty(0, np.int32)] * len(trees.words) for _ in range(2))
    for rows in _chunks(trees, np.arange(len(trees.words)), together):
        words, tags = _seen(task, trees, rows)
        lengths = np.array([len(trees.words[row]) for row in rows])
        state = arc_standard.start(lengths)
        full = np.zeros([together, FEATURES], np.int32)
        while not state.finished.all():
            full[: len(rows)] = features(state, words, tags)
            scores = np.asarray(score(full))[: len(rows)]
            possible = np.repeat(arc_standard.legal(state), [1, count, count], axis=1)
            actions = np.where(possible, scores, -np.inf).argmax(axis=1)
            arc_standard.step(state, actions, count)
        for row, length, head, name in zip(
            rows, lengths, state.heads, state.relations, strict=True
        ):
            heads[row], relations[row] = head[1 : length + 1], name[1 : length + 1]
    return tuple(heads), tuple(relations)


def _chunks(trees: Trees, rows: np.ndarray, together: int) -> Iterator[np.ndarray]:
    """Sentences of about the same length: all of a chunk wait for its longest."""
    lengths = np.array([len(words) for words in trees.words])
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    return (ordered[place : place + together] for place in range(0, len(ordered), together))


def _seen(task: Parsing, trees: Trees, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words and tags of sentences as `features` wants them."""
    words = arc_standard.by_word(
        [trees.words[row] for row in rows], task.words.numbers[ROOT], task.words.numbers[PAD]
    )
    tags = arc_standard.by_word(
        [trees.tags[row] for row in rows], task.tags.numbers[ROOT], task.tags.numbers[PAD]
    )
    return words, tags
