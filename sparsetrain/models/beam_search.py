"""Beam search: the likeliest continuations of a model that is asked symbol by symbol."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

PAD = 0


class Found(NamedTuple):
    """What the search ends with, best first."""

    tokens: jax.Array  # int32[B, K, T], without the first symbol, 0 behind the end
    scores: jax.Array  # float32[B, K], log probability over length^length_power
    lengths: jax.Array  # int32[B, K], symbols with the last one


class Beams(NamedTuple):
    """What is carried from step to step; K beams an example."""

    tokens: jax.Array  # int32[B, K, T]
    scores: jax.Array  # float32[B, K], log probability
    last: jax.Array  # int32[B, K], what the model is asked to continue
    ended: jax.Array  # bool[B, K]
    state: Any  # leaves [B * K, ...]


def beam_search(
    step: Callable[[Any, jax.Array], tuple[jax.Array, Any]],
    state: Any,
    batch: int,
    *,
    beam: int,
    length: int,
    begin: int,
    end: int,
    length_power: float = 0.0,
) -> Found:
    """Keeps the K likeliest beginnings, extends each by every symbol, and keeps the K likeliest again.

        s(y_1 .. y_t) = s(y_1 .. y_{t-1}) + log p(y_t | y_1 .. y_{t-1}),    score = s / t^length_power

    A beam that has ended keeps its place, and its log probability, as long as K others are not
    likelier. The search stops when all have ended, or at the limit. One beam is greedy decoding.

    Args:
      step: (state, int32[B * K]) -> (logits [B * K, V], state): one symbol on. It may be jitted and may
        close over what does not change, with K equal rows an example.
      state: tree of arrays [B, ...], before the first symbol; repeated here for every beam.
      batch: B.
      beam: K, 1 <= K.
      length: T, symbols at most, the end's among them.
      begin: symbol that the model is given first.
      end: symbol that ends a sequence.
      length_power: exponent of the length by which results are ranked; 0 ranks by probability, 1 by
        the mean over symbols. It does not act while searching.

    Returns:
      K sequences for each example; where there are fewer, scores of -inf.

    Raises:
      ValueError: no beams, no length, or an end that is the padding 0.

    Example:
      >>> chain = jnp.log(jnp.array([[.1, .1, .8], [.2, .2, .6], [.1, .6, .3]]))     # p(next | last)
      >>> found = beam_search(lambda state, last: (chain[last], state), (), 1, beam=2, length=3, begin=0, end=1)
      >>> found.tokens.tolist(), jnp.exp(found.scores).round(3).tolist()
      ([[[2, 1, 0], [2, 2, 1]]], [[0.48..., 0.14...]])
    """
    if beam < 1 or length < 1:
        raise ValueError(f"beam={beam}, length={length}: both must be at least 1")
    if end == PAD:
        raise ValueError(f"end={end}: 0 is padding; let sequences end in another symbol")
    # Beams that are all alike would stay so: at first only one of them counts.
    scores = jnp.broadcast_to(jnp.where(jnp.arange(beam) == 0, 0.0, -jnp.inf), (batch, beam))
    start = Beams(
        tokens=jnp.full((batch, beam, length), PAD, jnp.int32),
        scores=scores,
        last=jnp.full((batch, beam), begin, jnp.int32),
        ended=jnp.zeros((batch, beam), bool),
        state=jax.tree.map(lambda leaf: jnp.repeat(leaf, beam, 0), state),
    )

    def take(leaf: jax.Array, parents: jax.Array) -> jax.Array:
        """Rows [B, K, ...] of the beams that were extended."""
        return jnp.take_along_axis(leaf, jnp.expand_dims(parents, range(2, leaf.ndim)), 1)

    def extend(carry: tuple[jax.Array, Beams]) -> tuple[jax.Array, Beams]:
        t, beams = carry
        logits, state = step(beams.state, beams.last.reshape(-1))
        symbols = logits.shape[-1]
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, beam, symbols)
        # What has ended goes on in one way only, at no cost.
        stays = jnp.where(jnp.arange(symbols) == PAD, 0.0, -jnp.inf)[None, None]
        log_p = jnp.where(beams.ended[..., None], stays, log_p)
        scores, flat = lax.top_k((beams.scores[..., None] + log_p).reshape(batch, -1), beam)
        parents, chosen = flat // symbols, flat % symbols
        ended = take(beams.ended, parents)
        rows = (parents + beam * jnp.arange(batch)[:, None]).reshape(-1)
        return t + 1, Beams(
            tokens=take(beams.tokens, parents).at[:, :, t].set(chosen),
            scores=scores,
            last=chosen,
            ended=ended | (chosen == end),
            state=jax.tree.map(lambda leaf: leaf[rows], state),
        )

    def goes_on(carry: tuple[jax.Array, Beams]) -> jax.Array:
        t, beams = carry
        return (t < length) & ~beams.ended.all()

    _, beams = lax.while_loop(goes_on, extend, (jnp.zeros((), jnp.int32), start))
    ends = beams.tokens == end
    lengths = jnp.where(ends.any(-1), ends.argmax(-1) + 1, length)
    ranks = beams.scores / lengths.astype(jnp.float32) ** length_power
    ranks, order = lax.top_k(ranks, beam)
    return Found(take(beams.tokens, order), ranks, take(lengths, order))
