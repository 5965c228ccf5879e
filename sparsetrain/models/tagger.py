"""Bidirectional LSTM tagger: the network of the part-of-speech column of MSBP."""

from typing import Any

import jax
from flax import linen as nn

PAD = 0


class Tagger(nn.Module):
    """Embedding, LSTM layers that read a sentence both ways, and a tag for each word; symbol 0 is padding.

        embedding -> dropout -> (forward_0, backward_0) -> dropout -> (forward_1, backward_1) -> dropout -> output

    Each direction is a flax cell with a Dense layer a gate, so paths end in `forward_0/ii/kernel`,
    `backward_1/hf/kernel` and so on: rules match gates by `(forward|backward)_\\d/.*`. Rules of
    `backward` count rows over time as well: `sparsify(model, rules, rows=B * T)`.

    Attributes:
      symbols: V, size of the vocabulary.
      tags: number of logits a word.
      embedding: E, width of the embedding, 100 as of the GloVe vectors that MSBP starts from.
      hidden: H, width of one direction.
      layers: number of layers.
      dropout: rate; training needs rngs={"dropout": key}.
      cell: `nn.LSTMCell`, or `nn.OptimizedLSTMCell`: the same parameters, with two products a step
        instead of eight, which no rule of `backward` can match.

    Differs from the paper:
      1. It does not say whether H = 500 is one direction's width or both together: one direction's.
      2. It does not say where dropout acts: between layers, never along time.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 5.

    Example:
      >>> import jax.numpy as jnp
      >>> model, tokens = Tagger(symbols=9, tags=3, embedding=4, hidden=5), jnp.array([[4, 7, 0]])
      >>> jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)[0].shape
      (1, 3, 3)
    """

    symbols: int
    tags: int
    embedding: int = 100
    hidden: int = 500
    layers: int = 2
    dropout: float = 0.5
    cell: Any = nn.LSTMCell

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of each word's tag.

        Args:
          tokens: int[B, T], 0 behind the end.
          train: whether dropout acts.

        Returns:
          [B, T, tags], unnormalised log probabilities; those of padding mean nothing.
        """
        # With its length known, the backward layer begins at a sentence's last word.
        lengths = (tokens != PAD).sum(1)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = drop(nn.Embed(self.symbols, self.embedding, name="embedding")(tokens))
        for number in range(self.layers):
            forward, backward = (
                nn.RNN(self.cell(self.hidden, name=f"{way}_{number}"))
                for way in ("forward", "backward")
            )
            x = drop(nn.Bidirectional(forward, backward)(x, seq_lengths=lengths))
        return nn.Dense(self.tags, name="output")(x)
