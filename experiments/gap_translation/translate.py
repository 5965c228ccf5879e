"""Greedy translation, and SacreBLEU of it."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.gap_translation.pieces import BEGIN, END, PAD
from sparsetrain.models import Transformer

TOGETHER = 200  # sentences


@functools.partial(jax.jit, static_argnames=("model", "length"))
def greedy(model: Transformer, params: Any, source: jax.Array, length: int) -> jax.Array:
    """The likeliest symbol at every place, given those before.

    Args:
      model: the network.
      params: its parameters.
      source: int[B, S].
      length: L, symbols at most.

    Returns:
      int32[B, L], padding behind the end.
    """
    variables = {"params": params}
    memory = model.apply(variables, source, method="encode")
    target = jnp.full((len(source), length + 1), PAD, jnp.int32).at[:, 0].set(BEGIN)

    def place(number: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        target, is_done = carry
        states = model.apply(variables, memory, source, target[:, :-1], method="decode")
        here = lax.dynamic_index_in_dim(states, number, axis=1, keepdims=False)
        logits = jnp.asarray(model.apply(variables, here, method="logits"))
        symbol = jnp.argmax(logits, axis=-1)
        symbol = jnp.where(is_done, PAD, symbol).astype(jnp.int32)
        return target.at[:, number + 1].set(symbol), is_done | (symbol == END)

    begun = target, jnp.zeros(len(source), bool)
    return lax.fori_loop(0, length, place, begun)[0][:, 1:]


def translate(model: Transformer, params: Any, source: np.ndarray) -> np.ndarray:
    """Greedy translations of many sentences, some at a time.

    Args:
      model: the network.
      params: its parameters.
      source: int[N, S].

    Returns:
      int32[N, S].
    """
    found = []
    for at in range(0, len(source), TOGETHER):
        part = source[at : at + TOGETHER]
        # The last rows are filled up, so that one program serves all.
        rows = np.pad(part, ((0, TOGETHER - len(part)), (0, 0)))
        found.append(np.asarray(greedy(model, params, rows, source.shape[1]))[: len(part)])
    return np.concatenate(found)


def bleu(translations: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """SacreBLEU of untokenised text.

    Args:
      translations: N sentences.
      references: one of each.

    Returns:
      Score, 0..100, and the signature that says how it was computed.

    Raises:
      ImportError: the package is absent.

    Example:
      >>> bleu(["A cat sits on the mat."], ["A cat sits on the mat."])[0].__round__(1)   # doctest: +SKIP
      100.0
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise ImportError(
            "sacrebleu is absent: pip install 'sparsetrain[train,translation]'"
        ) from error
    metric = BLEU()
    score = metric.corpus_score(list(translations), [list(references)])
    return float(score.score), str(metric.get_signature())
