"""One run to one result file: never a partial one, never a finished one again."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.gap_translation import methods, pieces
from experiments.gap_translation.runs import SETTINGS, Run, Setting
from experiments.gap_translation.translate import bleu, translate
from experiments.grid import write_once
from sparsetrain import data, masks
from sparsetrain.data import multi30k
from sparsetrain.models import Transformer

SMOOTHING = 0.1
EVALUATED = 169  # sentences at once; 1,014 are six times as many
SHOWN = 3


class Job(NamedTuple):
    """The sentences of a setting as numbers.

    Attributes:
      pieces: the vocabulary.
      train, validation, test: (English, German), int32[N, L] each.
      references: German test sentences as they were written.
    """

    pieces: Any
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    references: tuple[str, ...]


def load() -> multi30k.Corpus:
    """Multi30k from $SPARSETRAIN_DATA."""
    return multi30k.load(Path(os.environ.get("SPARSETRAIN_DATA", "")) / multi30k.NAME)


def prepare(setting: Setting, corpus: multi30k.Corpus) -> Job:
    """Learns the pieces on the training pairs, and makes numbers of all.

    Args:
      setting: sizes.
      corpus: sentences.

    Returns:
      A `Job`; training pairs that are too long are left out, other sentences cut.
    """
    learnt = pieces.learn([*corpus.train.english, *corpus.train.german], setting.symbols)

    def numbers(pairs: multi30k.Pairs, all_of_them: bool) -> tuple[np.ndarray, np.ndarray]:
        (source, first), (target, second) = (
            pieces.encode(learnt, sentences, setting.length) for sentences in pairs
        )
        kept = (first & second) | all_of_them
        return source[kept], target[kept]

    test = multi30k.Pairs(*(part[: setting.tested] for part in corpus.test))
    return Job(
        learnt,
        numbers(corpus.train, False),
        numbers(corpus.validation, True),
        numbers(test, True),
        test.german,
    )


def record(run: Run, out: Path, load: Callable[[], multi30k.Corpus] = load) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      load: gives the sentences; the tests take fewer.

    Returns:
      Whether there was something to do.
    """
    return write_once(run, out, lambda: train(run, prepare(SETTINGS[run.setting], load())))


def loss(
    model: Transformer, params: Any, source: Any, target: Any, smoothing: float, key: Any = None
) -> jax.Array:
    """Mean cross-entropy of the target's symbols, padding left out.

    Args:
      model: the network.
      params: its parameters.
      source: int[B, S].
      target: int[B, T], with its end.
      smoothing: share of the probability that is spread over all symbols.
      key: of dropout; None for none.

    Returns:
      Scalar, nats a symbol.
    """
    begun = jnp.pad(jnp.asarray(target), ((0, 0), (1, 0)), constant_values=pieces.BEGIN)[:, :-1]
    rngs = None if key is None else {"dropout": key}
    logits = model.apply({"params": params}, source, begun, train=key is not None, rngs=rngs)
    logs = jax.nn.log_softmax(jnp.asarray(logits))
    right = jnp.take_along_axis(logs, jnp.asarray(target)[..., None], axis=-1)[..., 0]
    losses = -(1 - smoothing) * right - smoothing * jnp.mean(logs, axis=-1)
    is_symbol = target != pieces.PAD
    return jnp.sum(jnp.where(is_symbol, losses, 0.0)) / jnp.sum(is_symbol)


def train(run: Run, job: Job) -> dict[str, Any]:
    """Curves, and SacreBLEU at the end and at the best validation loss while all is sparse.

    Args:
      run: what to train.
      job: sentences.

    Returns:
      The fields of a result file that are measured.
    """
    setting = SETTINGS[run.setting]
    model = methods.network(setting)
    starts, draw, dropout = jax.random.split(jax.random.key(run.seed), 3)
    few = (job.train[0][:1], job.train[1][:1])
    params = jax.jit(model.init)(starts, *few)["params"]
    tx = methods.build(run, draw)
    state = tx.init(params)
    if run.method != "dense":
        params = masks.apply(params, state)
    counted = masks.flops(lambda p, *pair: model.apply({"params": p}, *pair), params, *few)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, source: jax.Array, target: jax.Array, key: Any) -> Any:
        params, state = carry
        of = functools.partial(
            loss, model, source=source, target=target, smoothing=SMOOTHING, key=key
        )
        value, grads = jax.value_and_grad(lambda params: of(params))(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    held_out = jax.jit(functools.partial(loss, model, smoothing=0.0))

    def validation(params: Any) -> float:
        starts = range(0, len(job.validation[0]) - EVALUATED + 1, EVALUATED) or range(1)
        parts = [[side[at : at + EVALUATED] for side in job.validation] for at in starts]
        return float(np.mean([held_out(params, source=a, target=b) for a, b in parts]))

    carry, losses, best = jax.tree.map(jnp.copy, (params, state)), [], (float("inf"), 0, params)
    names = ("update", "loss", "validation", "density")
    curves: dict[str, list[float]] = {name: [] for name in names}
    for number, (source, target) in enumerate(batches(job.train, run), 1):
        carry, value = step(carry, source, target, jax.random.fold_in(dropout, number))
        losses.append(value)
        if number not in setting.stops():
            continue
        found, kept = validation(carry[0]), masks.report(carry[1]).get("density", 1.0)
        line = [number, float(jnp.mean(jnp.stack(losses))), found, kept]
        for name, item in zip(names, line, strict=True):
            curves[name].append(item)
        losses = []
        if abs(kept - 1 + run.sparsity) < 0.005 and found < best[0]:
            best = (found, number, jax.tree.map(jnp.copy, carry[0]))
    translations = [
        pieces.decode(job.pieces, translate(model, each, job.test[0]))
        for each in (carry[0], best[2])
    ]
    (last, signature), (at_best, _) = (bleu(each, job.references) for each in translations)
    own = {} if run.method == "dense" else masks.find(carry[1]).masks
    shares = {path: float(np.mean(mask)) for path, mask in own.items()}
    return {
        "summary": {
            "bleu": last,
            "bleu_at_best": at_best,
            "best_update": best[1],
            "validation": curves["validation"][-1],
            "density": curves["density"][-1],
            "mflops": counted.sparse(shares) / 1e6,
        },
        "curves": curves,
        "signature": signature,
        "translations": translations[0][:SHOWN],
        "setting_of_run": dataclasses.asdict(setting),
    }


def batches(
    pairs: tuple[np.ndarray, np.ndarray], run: Run
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of all updates of a run: every epoch in an order of its own.

    Args:
      pairs: int32[N, L] of both languages.
      run: its seed fixes everything.

    Yields:
      int32[B, L] twice.
    """
    setting, generator = SETTINGS[run.setting], np.random.default_rng(run.seed)
    steps = data.steps_per_epoch(len(pairs[0]), setting.batch)
    for number in range(setting.updates):
        if number % steps == 0:
            order = generator.permutation(len(pairs[0]))
        places = order[number % steps * setting.batch :][: setting.batch]
        yield pairs[0][places], pairs[1][places]
