"""LSTM encoder and decoder with attention: the network of the translation table of MSBP."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsetrain.models.beam_search import Found, beam_search

PAD = 0
State = tuple[tuple[tuple[jax.Array, jax.Array], ...], jax.Array]


class Encoder(nn.Module):
    """LSTM layers that read both ways, `forward_0` and `backward_0`, `forward_1` and so on.

    Attributes:
      hidden: H, half of it for each direction.
      layers: number of layers.
      dropout: rate, on what goes into each layer.
      cell: of flax.
    """

    hidden: int
    layers: int
    dropout: float
    cell: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, tuple[tuple[jax.Array, jax.Array], ...]]:
        """([B, S, E], int[B]) -> ([B, S, H], a pair (c, h) of [B, H] a layer)."""
        states = []
        for number in range(self.layers):
            forward, backward = (
                nn.RNN(self.cell(self.hidden // 2, name=f"{way}_{number}"))
                for way in ("forward", "backward")
            )
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            both = nn.Bidirectional(forward, backward, return_carry=True)
            ends, x = both(x, seq_lengths=lengths)
            c, h = (jnp.concatenate(pair, -1) for pair in zip(*ends, strict=True))
            states.append((c, h))
        return x, tuple(states)


class DecoderStep(nn.Module):
    """One symbol on: LSTM cells, then attention to the encoder's outputs.

        a_s = softmax_s(h^T W m_s),    h~ = tanh(C [sum_s a_s m_s; h]),    next input [x; h~]

    The keys W m_s come from outside, since they are the same at every step.

    Attributes:
      hidden: H.
      layers: number of LSTM cells.
      dropout: rate between layers, and on h~.
      cell: of flax.
    """

    hidden: int
    layers: int
    dropout: float
    cell: Any

    @nn.compact
    def __call__(
        self, state: State, x: jax.Array, memory: Any, *, train: bool = False
    ) -> tuple[State, jax.Array]:
        """(state, [B, E], (outputs [B, S, H], keys [B, S, H], bool[B, S])) -> (state, h~ [B, H])."""
        cells, attended = state
        outputs, keys, words = memory
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = jnp.concatenate([x, attended], -1)
        new = []
        for number in range(self.layers):
            carry, x = self.cell(self.hidden, name=f"lstm_{number}")(cells[number], drop(x))
            new.append(carry)
        scores = jnp.einsum("bh,bsh->bs", x, keys)
        weights = nn.softmax(jnp.where(words, scores, -jnp.inf))
        context = jnp.einsum("bs,bsh->bh", weights, outputs)
        both = jnp.concatenate([context, x], -1)
        attended = jnp.tanh(nn.Dense(self.hidden, use_bias=False, name="combine")(both))
        return (tuple(new), attended), drop(attended)


class Seq2Seq(nn.Module):
    """Bidirectional LSTM encoder, LSTM decoder, Luong's attention; symbol 0 is padding.

        source -> source_embedding -> encoder (forward_0, backward_0, ...) -> memory, keys by `attention`
        target -> target_embedding -> decoder (lstm_0, ..., combine) -> output -> logits

    Cells have a Dense layer a gate: paths end in `encoder/forward_0/ii/kernel`, `decoder/lstm_2/hf/kernel` and
    so on. Rules of `backward` count rows over time: rows={"encoder/.*": B * S, "decoder/.*": B * T}.
    Layers of the decoder begin with the states in which those of the encoder ended.

    Attributes:
      source_symbols: size of the source's vocabulary.
      target_symbols: V, of the target's.
      embedding: E.
      hidden: H, even; each direction of the encoder has H / 2.
      layers: of the encoder, and of the decoder.
      dropout: rate, between layers and never along time; training needs rngs={"dropout": key}.
      cell: `nn.LSTMCell`, or `nn.OptimizedLSTMCell`: the same parameters, with two products a step
        instead of eight, which no rule of `backward` can match.

    Differs from the paper:
      1. MSBP says "512" and "bidirectional"; that a direction has half of it, so that states fit the
         decoder's, is OpenNMT's convention and our reading. So is Luong's "general" score with input feeding.

    Reference: Luong et al., Effective Approaches to Attention-based Neural Machine Translation (arXiv 1508.04025).

    Example:
      >>> model = Seq2Seq(11, 12, embedding=4, hidden=6, layers=1)
      >>> source, target = jnp.array([[4, 5, 6, 2, 0]]), jnp.array([[1, 7, 8]])
      >>> shapes, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), source, target)
      >>> shapes.shape
      (1, 3, 12)
    """

    source_symbols: int
    target_symbols: int
    embedding: int = 512
    hidden: int = 512
    layers: int = 3
    dropout: float = 0.4
    cell: Any = nn.LSTMCell

    def setup(self) -> None:
        if self.hidden % 2:
            raise ValueError(f"hidden={self.hidden}: must be even, half of it for each direction")
        self.source_embedding = nn.Embed(self.source_symbols, self.embedding)
        self.target_embedding = nn.Embed(self.target_symbols, self.embedding)
        self.encoder = Encoder(self.hidden, self.layers, self.dropout, self.cell)
        self.attention = nn.Dense(self.hidden, use_bias=False)
        self.decoder = DecoderStep(self.hidden, self.layers, self.dropout, self.cell)
        self.output = nn.Dense(self.target_symbols)

    def encode(self, source: jax.Array, *, train: bool = False) -> tuple[Any, State]:
        """What the decoder reads, and its state before the first symbol.

        Args:
          source: int[B, S], 0 behind the end.
          train: whether dropout acts.

        Returns:
          (outputs [B, S, H], keys [B, S, H], bool[B, S]), and (a pair (c, h) of [B, H] a layer, h~).
        """
        words = source != PAD
        x = self.source_embedding(source)
        x, states = self.encoder(x, words.sum(1), train=train)
        return (x, self.attention(x), words), (states, jnp.zeros_like(x[:, 0]))

    def step(self, state: State, tokens: jax.Array, memory: Any) -> tuple[jax.Array, State]:
        """One symbol on, without dropout: int[B] -> logits [B, V]."""
        state, x = self.decoder(state, self.target_embedding(tokens), memory)
        return self.output(x), state

    def __call__(self, source: jax.Array, target: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of the symbol that follows each of the target.

        Args:
          source: int[B, S], 0 behind the end.
          target: int[B, T], from the symbol of the beginning on.
          train: whether dropout acts.

        Returns:
          [B, T, V], unnormalised log probabilities.
        """
        memory, state = self.encode(source, train=train)

        def step(decoder: DecoderStep, state: State, x: jax.Array) -> tuple[State, jax.Array]:
            return decoder(state, x, memory, train=train)

        over_time = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        _, x = over_time(self.decoder, state, self.target_embedding(target))
        return self.output(x)


@functools.partial(
    jax.jit, static_argnames=("model", "beam", "length", "begin", "end", "length_power")
)
def translate(
    model: Seq2Seq,
    variables: Any,
    source: jax.Array,
    *,
    beam: int,
    length: int,
    begin: int,
    end: int,
    length_power: float = 0.0,
) -> Found:
    """Likeliest targets of each source, by `beam_search`.

    Args:
      model: the plain model.
      variables: {"params": …}.
      source: int[B, S], 0 behind the end.
      beam: K; 1 is greedy decoding.
      length: symbols at most.
      begin: symbol that the decoder is given first.
      end: symbol that ends a target.
      length_power: see `beam_search`.

    Returns:
      K targets of each source, best first.
    """
    memory, state = model.apply(variables, source, method="encode")
    memory = jax.tree.map(lambda leaf: jnp.repeat(leaf, beam, 0), memory)

    def step(state: State, tokens: jax.Array) -> tuple[jax.Array, State]:
        said: Any = model.apply(variables, state, tokens, memory, method="step")
        return said

    return beam_search(
        step,
        state,
        source.shape[0],
        beam=beam,
        length=length,
        begin=begin,
        end=end,
        length_power=length_power,
    )
