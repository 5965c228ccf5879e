"""Transformer for translation: encoder and decoder, as in the paper that brought it."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

PAD = 0
# Table 3 of the paper, its rows "base" and "big".
SIZES: dict[str, dict[str, Any]] = {
    "base": {"width": 512, "feed": 2048, "heads": 8, "layers": 6, "dropout": 0.1},
    "big": {"width": 1024, "feed": 4096, "heads": 16, "layers": 6, "dropout": 0.3},
}
_Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


def positions(length: int, width: int) -> np.ndarray:
    """Sines and cosines of a place, wave lengths from 2 pi to 20,000 pi.

        p[t, 2i] = sin(t / 10000^(2i / D)),    p[t, 2i + 1] = cos(t / 10000^(2i / D))

    Args:
      length: T, number of places.
      width: D, even.

    Returns:
      float32[T, D].

    Example:
      >>> positions(2, 4).round(4).tolist()
      [[0.0, 1.0, 0.0, 1.0], [0.8414999842643738, 0.5403000116348267, 0.009999999776482582, 1.0]]
    """
    angles = np.arange(length)[:, None] / 10_000.0 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, width).astype(np.float32)


class Attention(nn.Module):
    """Multi-head attention with projections `q`, `k`, `v` and `out`.

        out(softmax(q(x) k(y)^T / sqrt(D / heads)) v(y))

    Attributes:
      heads: number of heads, a divisor of the width.
      dropout: rate, on the attention weights.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array, mask: Any, train: bool) -> jax.Array:
        """Reads from `y` for every place of `x`.

        Args:
          x: [B, T, D].
          y: [B, S, D].
          mask: bool[B or 1, 1, T or 1, S], whether a place may be read; None for all.
          train: whether dropout acts.

        Returns:
          [B, T, D].
        """
        width = x.shape[-1]

        def project(name: str, values: jax.Array) -> jax.Array:
            by_head = (*values.shape[:-1], self.heads, width // self.heads)
            return _Dense(width, name=name)(values).reshape(by_head)

        acts = train and self.dropout > 0
        read = nn.dot_product_attention(
            project("q", x),
            project("k", y),
            project("v", y),
            mask=mask,
            dropout_rate=self.dropout,
            dropout_rng=self.make_rng("dropout") if acts else None,
            deterministic=not acts,
        )
        return _Dense(width, name="out")(read.reshape(x.shape))


class Layer(nn.Module):
    """Attention to itself, in a decoder then to the encoder's output (`cross`), then `fc1` and `fc2`.

    Attributes:
      heads: of every attention.
      feed: width between `fc1` and `fc2`.
      dropout: rate.
      pre_norm: whether norms come before a part (x + f(norm(x))) or after it (norm(x + f(x))).
    """

    heads: int
    feed: int
    dropout: float
    pre_norm: bool

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        memory: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """[B, T, D] -> [B, T, D]; with a memory [B, S, D] this is a decoder's layer."""
        drop = nn.Dropout(self.dropout, deterministic=not train)

        def around(part: Any, x: jax.Array, name: str) -> jax.Array:
            norm = nn.LayerNorm(name=name)
            if self.pre_norm:
                return x + drop(part(norm(x)))
            return norm(x + drop(part(x)))

        def feed(x: jax.Array) -> jax.Array:
            hidden = nn.relu(_Dense(self.feed, name="fc1")(x))
            return _Dense(x.shape[-1], name="fc2")(drop(hidden))

        attention = Attention(self.heads, self.dropout, name="attention")
        x = around(lambda x: attention(x, x, mask, train), x, "attention_norm")
        if memory is not None:
            cross = Attention(self.heads, self.dropout, name="cross")
            x = around(lambda x: cross(x, memory, memory_mask, train), x, "cross_norm")
        return around(feed, x, "feed_norm")


class Transformer(nn.Module):
    """Encoder and decoder with sinusoidal positions; symbol 0 is padding.

        source -> embedding sqrt(D) + positions -> encoder_0, encoder_1, ...
        target -> embedding sqrt(D) + positions -> decoder_0, decoder_1, ... -> logits

    Paths end in `attention|cross/q|k|v|out/kernel`, `fc1/kernel` and `fc2/kernel`, so that
    `encoder_\\d+/.*` is the encoder. The defaults are the base model of the paper; `Transformer.of_size`
    knows the big one as well.

    Attributes:
      symbols: V, size of the vocabulary, of both languages together.
      width: D.
      feed: width between `fc1` and `fc2`.
      heads: of every attention.
      layers: of the encoder, and of the decoder.
      dropout: rate; training needs rngs={"dropout": key}.
      pre_norm: whether norms come before each part, with one more at the end of both stacks.
      shares: whether source, target and output have one matrix, `embedding`; else they are
        `source_embedding`, `target_embedding` and `output`.

    Differs from the paper:
      1. Dropout also acts on attention weights and between `fc1` and `fc2`, at the same rate, as in the
        later tensor2tensor settings.

    Reference: Vaswani et al., Attention Is All You Need (arXiv 1706.03762).

    Example:
      >>> model = Transformer(symbols=11, width=8, feed=16, heads=2, layers=1)
      >>> source, target = jnp.array([[4, 5, 6, 2, 0]]), jnp.array([[1, 7, 8]])
      >>> variables = model.init(jax.random.key(0), source, target)
      >>> model.apply(variables, source, target).shape
      (1, 3, 11)
    """

    symbols: int
    width: int = 512
    feed: int = 2048
    heads: int = 8
    layers: int = 6
    dropout: float = 0.1
    pre_norm: bool = False
    shares: bool = True

    @classmethod
    def of_size(cls, size: str, symbols: int, **changes: Any) -> "Transformer":
        """A model of the paper.

        Args:
          size: "base" or "big": 65 and 213 million parameters there, with some 37,000 symbols; 63,082,496
            and 214,245,376 here with 37,000, since the paper's vocabulary is not told exactly.
          symbols: V.
          **changes: attributes that differ.

        Raises:
          ValueError: an unknown size.

        Example:
          >>> Transformer.of_size("big", 37_000, dropout=0.1).heads
          16
        """
        if size not in SIZES:
            raise ValueError(f"size={size!r} is unknown; choose one of {sorted(SIZES)}")
        return cls(symbols, **{**SIZES[size], **changes})

    def setup(self) -> None:
        def embed() -> nn.Embed:
            return nn.Embed(
                self.symbols,
                self.width,
                embedding_init=nn.initializers.normal(self.width**-0.5),
            )

        if self.shares:
            self.embedding = embed()
        else:
            self.source_embedding, self.target_embedding = embed(), embed()
            self.output = _Dense(self.symbols, use_bias=False)

        def stack() -> list[Layer]:
            return [
                Layer(self.heads, self.feed, self.dropout, self.pre_norm)
                for _ in range(self.layers)
            ]

        self.encoder, self.decoder = stack(), stack()
        if self.pre_norm:
            self.encoder_norm, self.decoder_norm = nn.LayerNorm(), nn.LayerNorm()
        self.drop = nn.Dropout(self.dropout)

    def _enter(self, embedding: nn.Embed, tokens: jax.Array, train: bool) -> jax.Array:
        x = math.sqrt(self.width) * embedding(tokens)
        x = x + positions(tokens.shape[1], self.width)[None]
        return self.drop(x, deterministic=not train)

    def encode(self, source: jax.Array, *, train: bool = False) -> jax.Array:
        """What the decoder reads.

        Args:
          source: int[B, S].
          train: whether dropout acts.

        Returns:
          [B, S, D].
        """
        x = self._enter(self.embedding if self.shares else self.source_embedding, source, train)
        mask = (source != PAD)[:, None, None, :]
        for layer in self.encoder:
            x = layer(x, mask, train=train)
        return self.encoder_norm(x) if self.pre_norm else x

    def decode(
        self, memory: jax.Array, source: jax.Array, target: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """States of the decoder, for `logits`.

        Args:
          memory: [B, S, D], of `encode`.
          source: int[B, S], for its padding.
          target: int[B, T], from the symbol of the beginning on.
          train: whether dropout acts.

        Returns:
          [B, T, D]; a place sees no later one.
        """
        x = self._enter(self.embedding if self.shares else self.target_embedding, target, train)
        seen = (source != PAD)[:, None, None, :]
        # Padding of the target lies behind its end, where nothing is read.
        before = jnp.tril(jnp.ones((target.shape[1], target.shape[1]), bool))[None, None]
        for layer in self.decoder:
            x = layer(x, before, memory, seen, train=train)
        return self.decoder_norm(x) if self.pre_norm else x

    def logits(self, states: jax.Array) -> jax.Array:
        """[..., D] -> [..., V], unnormalised log probabilities."""
        return self.embedding.attend(states) if self.shares else self.output(states)

    def __call__(self, source: jax.Array, target: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of the symbol that follows each of the target.

        Args:
          source: int[B, S].
          target: int[B, T], from the symbol of the beginning on.
          train: whether dropout acts.

        Returns:
          [B, T, V], unnormalised log probabilities.
        """
        memory = self.encode(source, train=train)
        return self.logits(self.decode(memory, source, target, train=train))
