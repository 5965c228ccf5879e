"""Word-level LSTM: the network of the Penn Treebank column of Sparse Binary Compression."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Carry = tuple[tuple[jax.Array, jax.Array], ...]


class WordLSTM(nn.Module):
    """Embedding, LSTM layers `lstm_0`, `lstm_1`, ..., and `output`, for next-word prediction.

        tokens -> embedding -> dropout -> lstm_0 -> dropout -> lstm_1 -> dropout -> logits

    The defaults are the "medium" model: 650 units, 2 layers, dropout .5, weights drawn from
    [-.05, .05]; 19,775,200 parameters with the 10,000 words of the Penn Treebank, trained on pieces
    of 35 words. Rules of `backward` count rows over time: `sparsify(model, rules, rows=B * T)`.

    Attributes:
      symbols: V, size of the vocabulary.
      hidden: H, width of the embedding and of every layer.
      layers: number of LSTM layers.
      dropout: rate, between layers and never along time; training needs rngs={"dropout": key}.
      scale: weights start uniformly in [-scale, scale].
      cell: `nn.LSTMCell`, or `nn.OptimizedLSTMCell`: the same parameters, with two products a step
        instead of eight, which no rule of `backward` can match.

    Differs from the paper:
      1. Biases start at zero.

    Reference: Zaremba et al., Recurrent Neural Network Regularization (arXiv 1409.2329).

    Example:
      >>> model = WordLSTM(symbols=10_000)
      >>> tokens, carry = jnp.zeros([20, 35], int), model.initial(20)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, carry)
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes))
      19775200
    """

    symbols: int
    hidden: int = 650
    layers: int = 2
    dropout: float = 0.5
    scale: float = 0.05
    cell: Any = nn.LSTMCell

    def initial(self, batch: int) -> Carry:
        """Zeros: the state before a text begins, a pair (c, h) of [B, H] a layer."""
        zeros = jnp.zeros((batch, self.hidden))
        return ((zeros, zeros),) * self.layers

    @nn.compact
    def __call__(
        self, tokens: jax.Array, carry: Carry, *, train: bool = False
    ) -> tuple[jax.Array, Carry]:
        """Logits of the word that follows each.

        Args:
          tokens: int[B, T].
          carry: state before the first word.
          train: whether dropout acts.

        Returns:
          [B, T, V], unnormalised log probabilities, and the state behind the last word.
        """

        def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -self.scale, self.scale)

        drop = nn.Dropout(self.dropout, deterministic=not train)
        embed = nn.Embed(self.symbols, self.hidden, embedding_init=uniform, name="embedding")
        x = drop(embed(tokens))
        states = []
        for number in range(self.layers):
            cell = self.cell(
                self.hidden,
                kernel_init=uniform,
                recurrent_kernel_init=uniform,
                name=f"lstm_{number}",
            )
            state, x = nn.RNN(cell, return_carry=True)(x, initial_carry=carry[number])
            states.append(state)
            x = drop(x)
        logits = nn.Dense(self.symbols, kernel_init=uniform, name="output")(x)
        return logits, tuple(states)
