"""Translations of sentences: trained on the right beginnings, scored by BLEU at the end."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain.data import buckets, multi30k, translation
from sparsetrain.data.files import folder_of
from sparsetrain.data.multi30k import Corpus, Pairs
from sparsetrain.data.translation import Numbered
from sparsetrain.data.vocabulary import BEGIN, END, UNKNOWN
from sparsetrain.models import translate
from sparsetrain.training.tasks.task import Loaded, Task

PAD = 0
TOGETHER = 100  # sentences that are translated at once


@dataclasses.dataclass(frozen=True)
class Translation(Task):
    """Batches are source int32[B, S] and target int32[B, T + 1], 0 behind the end.

    Attributes:
      source_symbols: size of the source's vocabulary.
      target_symbols: of the target's.
      batch: B of training.
      lengths: (S, T) of training.
      label_smoothing: share of the probability that goes evenly to all symbols in training.
    """

    source_symbols: int
    target_symbols: int
    batch: int
    lengths: tuple[int, int]
    label_smoothing: float = 0.0

    name: ClassVar[str] = "translation"
    models: ClassVar[tuple[str, ...]] = ("seq2seq", "transformer")
    score: ClassVar[str] = "token_accuracy"

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {
            "source_symbols": self.source_symbols,
            "target_symbols": self.target_symbols,
            # Of a model with one vocabulary of both.
            "symbols": max(self.source_symbols, self.target_symbols),
        }

    @property
    def rows(self) -> Mapping[str, int]:
        source, target = self.lengths
        # Other layers are called once, on all places; recurrent cells and what is among them place by place.
        return {
            r"encoder/(forward|backward)_\d+/.*": self.batch * source,
            r"decoder/(lstm_\d+|combine)/.*": self.batch * target,
        }

    @property
    def evaluation_rows(self) -> int:
        return TOGETHER

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        source, target = batch
        return source, target[:, :-1]

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        said = batch[1][:, 1:]
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, said)
        if self.label_smoothing:
            even = jax.nn.logsumexp(outputs, -1) - outputs.mean(-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * even
        told = said != PAD
        return jnp.where(told, losses, 0).sum() / jnp.maximum(told.sum(), 1)

    def tally(self, outputs: Any, batch: Any) -> Any:
        said = batch[1][:, 1:]
        told = said != PAD
        hits = ((outputs.argmax(-1) == said) & told).sum(dtype=jnp.int32)
        return hits, told.sum(dtype=jnp.int32)

    def scores(self, sums: Any) -> dict[str, jax.Array]:
        hits, symbols = sums
        return {"token_accuracy": hits.astype(jnp.float32) / symbols}


def synthetic(count: int = 24, symbols: int = 8, length: int = 5) -> Corpus:
    """Sentences whose translation is word for word.

    Args:
      count: training pairs at least, as many as it takes to show all words; half of `count` validate and test.
      symbols: different words of a language.
      length: of the longest sentence.

    Returns:
      `Corpus`.

    Example:
      >>> pair = synthetic(count=2, length=3).train
      >>> pair.english[0], pair.german[0]
      ('w0 w1 w2', 'v0 v1 v2')
    """
    chance = np.random.default_rng(0)
    shows = -(-symbols // length)

    def numbers(place: int) -> np.ndarray:
        if place < shows:
            return np.arange(place * length, (place + 1) * length) % symbols
        return chance.integers(0, symbols, chance.integers(2, length + 1))

    def pairs(count: int) -> Pairs:
        rows = [numbers(place) for place in range(count)]
        languages = (tuple(" ".join(f"{a}{n}" for n in row) for row in rows) for a in "wv")
        return Pairs(*languages)

    return Corpus(pairs(max(count, shows)), pairs(count // 2), pairs(count // 2))


def corpus(name: str, path: str | os.PathLike[str] | None, sizes: Mapping[str, Any]) -> Corpus:
    """Sentence pairs by the name of their data set.

    Raises:
      ValueError: an unknown name.
    """
    if name == "synthetic":
        return synthetic(**sizes)
    if name != multi30k.NAME:
        raise ValueError(
            f"data.name={name!r} holds no sentence pairs; choose {multi30k.NAME} or synthetic"
        )
    return multi30k.load(Path(folder_of(name, path)))


def bleu(found: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float | None:
    """BLEU of tokens as they stand, 0 to 1.

    Args:
      found: tokens of N translations.
      references: of what is right, one each.

    Returns:
      SacreBLEU's corpus score / 100, without a tokenizer of its own; None where the package is absent.

    Example:
      >>> bleu([["a", "dog", "and", "a", "cat"]], [["a", "dog", "and", "a", "cat"]])      # doctest: +SKIP
      1.0
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        return None
    lines = ([" ".join(sentence) for sentence in side] for side in (found, references))
    hypotheses, right = lines
    return float(BLEU(tokenize="none", force=True).corpus_score(hypotheses, [right]).score) / 100


def load(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    workers: int,
    sizes: Mapping[str, Any],
    length: int = 40,
    least: int = 2,
    size: int | None = None,
    label_smoothing: float = 0.0,
    beam: int = 10,
    length_power: float = 1.0,
) -> Loaded:
    """Loads sentence pairs, English to German.

    Training pairs with more than `length` words on a side are left out, which a note counts; validation and test
    have rows as long as their longest sentence.

    Args:
      name: "multi30k-en-de" or "synthetic".
      path: folder of the six files, or None for the usual place.
      batch_size: of a worker.
      workers: any.
      sizes: of `synthetic`.
      length: words of a side in training.
      least: words that are rarer in training are unknown.
      size: symbols of each language at most.
      label_smoothing: see `Translation`.
      beam: of the search at the end.
      length_power: see `models.beam_search`.

    Returns:
      `Loaded`; at the end of a run "bleu" of both languages' lower-case tokens, if sacrebleu is there and the
      model can be asked symbol by symbol, which `Seq2Seq` can.

    Raises:
      ValueError: an unknown name, or no pair is short enough.

    Example:
      >>> found = load("synthetic", None, batch_size=4, workers=1, sizes={}, length=4, least=1)
      >>> found.train[0].shape[1], found.train[1].shape[1], found.test[1].shape[1]
      (4, 6, 7)
    """
    del workers
    pairs = corpus(name, path, sizes)
    found = translation.prepare(pairs, least, size)
    kept = [
        row
        for row, (source, target) in enumerate(
            zip(found.train.source, found.train.target, strict=True)
        )
        if max(len(source), len(target) - 2) <= length
    ]
    if not kept:
        raise ValueError(f"task.length={length}: all training pairs are longer; raise it")
    short = Numbered(*(tuple(side[row] for row in kept) for side in found.train))

    def matrices(part: Numbered, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        target = None if length is None else length + 2
        return buckets.padded(part.source, length), buckets.padded(part.target, target)

    numbers = found.target.numbers

    def at_end(model: Any, variables: Any, split: str) -> dict[str, float]:
        if not hasattr(model, "step"):
            return {}
        part, german = getattr(found, split), getattr(pairs, split).german
        source, target = matrices(part)
        said: list[Sequence[str]] = []
        for place in range(0, len(source), TOGETHER):
            rows = source[place : place + TOGETHER]
            # Filled up, so that one program serves all; a row of padding would have no word to attend to.
            full = np.concatenate([rows, np.repeat(source[:1], TOGETHER - len(rows), axis=0)])
            best = translate(
                model,
                variables,
                jnp.asarray(full),
                beam=beam,
                length=target.shape[1] + 10,
                begin=numbers[BEGIN],
                end=numbers[END],
                length_power=length_power,
            )
            tokens = np.asarray(best.tokens[: len(rows), 0])
            said += [
                [word for word in found.target.decode(row) if word != UNKNOWN] for row in tokens
            ]
        score = bleu(said, [translation.tokens(sentence) for sentence in german])
        return {} if score is None else {"bleu": score}

    task = Translation(
        len(found.source), len(found.target), batch_size, (length, length + 1), label_smoothing
    )
    left = len(found.train.source) - len(kept)
    note = (
        f"{left:,} of {len(found.train.source):,} training pairs have more than task.length={length} "
        "words on a side and are left out"
    )
    return Loaded(
        task,
        matrices(short, length),
        matrices(found.validation),
        matrices(found.test),
        (note,) if left else (),
        at_end=at_end,
    )
