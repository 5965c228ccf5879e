"""Decoder-only Transformer: a language model of the kind that is trained today, small."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsetrain.models.transformer import Layer, positions


class DecoderLM(nn.Module):
    """Predicts each symbol from those before it; the layers of `Transformer`, norms first.

        tokens -> embedding sqrt(D) + positions -> decoder_0, decoder_1, ... -> norm -> embedding^T -> logits

    Paths end in `attention/q|k|v|out/kernel`, `fc1/kernel` and `fc2/kernel`. The matrix `embedding` is that of the
    input and of the output. V D + L (4 D (D + 1) + 2 D F + F + D + 4 D) + 2 D parameters.

    Attributes:
      symbols: V, size of the vocabulary.
      width: D.
      feed: F, width between `fc1` and `fc2`.
      heads: of every attention, a divisor of the width.
      layers: L.
      dropout: rate; training needs rngs={"dropout": key} where it is not 0.

    Differs from the papers:
      1. Sinusoidal positions as in the first Transformer, where GPT-2 learns them.

    Reference: Radford et al., Language Models are Unsupervised Multitask Learners (2019); Vaswani et al.,
      Attention Is All You Need (arXiv 1706.03762).

    Example:
      >>> model = DecoderLM(symbols=11, width=8, feed=16, heads=2, layers=1)
      >>> tokens = jnp.array([[4, 5, 6, 2, 0]])
      >>> model.apply(model.init(jax.random.key(0), tokens), tokens).shape
      (1, 5, 11)
    """

    symbols: int
    width: int = 64
    feed: int = 256
    heads: int = 4
    layers: int = 2
    dropout: float = 0.0

    def setup(self) -> None:
        normal = nn.initializers.normal(self.width**-0.5)
        self.embedding = nn.Embed(self.symbols, self.width, embedding_init=normal)
        self.decoder = [
            Layer(self.heads, self.feed, self.dropout, pre_norm=True) for _ in range(self.layers)
        ]
        self.norm = nn.LayerNorm()
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of the symbol that follows each.

        Args:
          tokens: int[B, T].
          train: whether dropout acts.

        Returns:
          [B, T, V], unnormalised log probabilities; a place sees no later one.
        """
        length = tokens.shape[1]
        x = math.sqrt(self.width) * self.embedding(tokens) + positions(length, self.width)[None]
        x = self.drop(x, deterministic=not train)
        before = jnp.tril(jnp.ones((length, length), bool))[None, None]
        for layer in self.decoder:
            x = layer(x, before, train=train)
        return self.embedding.attend(self.norm(x))
