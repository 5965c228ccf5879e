"""Character-level LSTM: the network of the Shakespeare column of Sparse Binary Compression."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Carry = tuple[tuple[jax.Array, jax.Array], ...]


class LSTMLayer(nn.Module):
    """One LSTM layer over time.

        i, f, g, o = split(W x_t + b + U h_{t-1}),   c_t = s(f) c_{t-1} + s(i) tanh(g),   h_t = s(o) tanh(c_t)

    W and b are the Dense layer `input`, applied to all steps in one product; U is `recurrent`. The
    forget gate's bias starts at 1.

    Attributes:
      hidden: H, width.
    """

    hidden: int

    @nn.compact
    def __call__(
        self, inputs: jax.Array, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Outputs of all steps.

        Args:
          inputs: [T, B, I] float.
          carry: (c, h) before the first step, [B, H] each.

        Returns:
          [T, B, H] float, and (c, h) after the last step.
        """

        def bias(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
            del key
            return jnp.zeros(shape, dtype).at[self.hidden : 2 * self.hidden].set(1.0)

        from_inputs = nn.Dense(4 * self.hidden, bias_init=bias, name="input")(inputs)
        shape = (self.hidden, 4 * self.hidden)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), shape)

        def step(
            carry: tuple[jax.Array, jax.Array], x: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            c, h = carry
            i, f, g, o = jnp.split(x + h @ recurrent, 4, axis=-1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (c, h), h

        carry, outputs = lax.scan(step, carry, from_inputs)
        return outputs, carry


class CharLSTM(nn.Module):
    """Embedding, LSTM layers `lstm_0`, `lstm_1`, ..., and `output`, for next-symbol prediction.

    Attributes:
      symbols: V, size of the alphabet.
      embedding: E, width of the embedding.
      hidden: H, width of every LSTM layer.
      layers: number of LSTM layers.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = CharLSTM(symbols=5, embedding=3, hidden=4)
      >>> tokens, carry = jnp.zeros([2, 7], int), model.initial(2)
      >>> params = model.init(jax.random.key(0), tokens, carry)
      >>> model.apply(params, tokens, carry)[0].shape
      (2, 7, 5)
    """

    symbols: int
    embedding: int = 64
    hidden: int = 200
    layers: int = 2

    def initial(self, batch: int) -> Carry:
        """Zeros: the state before a text begins, a pair (c, h) of [B, H] a layer."""
        zeros = jnp.zeros((batch, self.hidden))
        return ((zeros, zeros),) * self.layers

    @nn.compact
    def __call__(
        self, tokens: jax.Array, carry: Carry, *, train: bool = False
    ) -> tuple[jax.Array, Carry]:
        """Logits of the symbol that follows each.

        Args:
          tokens: [B, T] int.
          carry: state before the first symbol.
          train: as other models take it; nothing here differs in training.

        Returns:
          [B, T, V], unnormalised log probabilities, and the state behind the last symbol.
        """
        del train
        # Time first, as the scan needs it.
        x = nn.Embed(self.symbols, self.embedding, name="embedding")(tokens.T)
        states = []
        for number in range(self.layers):
            x, state = LSTMLayer(self.hidden, name=f"lstm_{number}")(x, carry[number])
            states.append(state)
        logits = nn.Dense(self.symbols, name="output")(x)
        return logits.transpose(1, 0, 2), tuple(states)
