"""Convolutional sentence classifier: the network of the polarity and subjectivity columns of MSBP."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

PAD = 0


class TextCNN(nn.Module):
    """Windows of several widths over word embeddings, and the maximum over time; symbol 0 is padding.

        tokens -> embedding -> {conv w, 100 maps -> ReLU -> max over time : w = 3, 4, 5} -> dropout -> classes

    Layers are named `embedding`, `conv_3`, `conv_4`, `conv_5` and `output`. Behind the embedding there
    are 360,300 parameters in the convolutions, and 602 in the output of two classes.

    Attributes:
      symbols: V, size of the vocabulary.
      classes: number of logits.
      embedding: E, width of the embedding.
      windows: widths of the convolutions, in words.
      maps: outputs of each convolution.
      dropout: rate, on what is pooled; training needs rngs={"dropout": key}.

    Differs from the paper:
      1. Each window sees w - 1 zeros at both ends of a sentence, and none that holds no word is pooled:
         padding of a batch changes nothing.
      2. The bound on the norm of the output's columns (3) is left to the optimizer; MSBP names none.

    Reference: Kim, Convolutional Neural Networks for Sentence Classification (arXiv 1408.5882).

    Example:
      >>> model = TextCNN(symbols=20_000)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros([1, 7], int))["params"]
      >>> shapes["conv_5"]["kernel"].shape, shapes["output"]["kernel"].shape
      ((5, 300, 100), (300, 2))
    """

    symbols: int
    classes: int = 2
    embedding: int = 300
    windows: Sequence[int] = (3, 4, 5)
    maps: int = 100
    dropout: float = 0.5

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits.

        Args:
          tokens: int[B, T], 0 behind the end.
          train: whether dropout acts.

        Returns:
          [B, classes], unnormalised log probabilities.
        """
        words = (tokens != PAD)[..., None]
        x = nn.Embed(self.symbols, self.embedding, name="embedding")(tokens) * words
        pooled = []
        for width in self.windows:
            around = ((width - 1, width - 1),)
            y = nn.relu(nn.Conv(self.maps, (width,), padding=around, name=f"conv_{width}")(x))
            holds_word = nn.max_pool(words.astype(x.dtype), (width,), padding=around) > 0
            # ReLU leaves nothing below 0, so 0 never wins against a window with words.
            pooled.append(jnp.where(holds_word, y, 0).max(1))
        x = jnp.concatenate(pooled, -1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, name="output")(x)
