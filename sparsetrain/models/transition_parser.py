"""Transition-based dependency parser with one hidden layer: the network of the parsing column of MSBP."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsetrain.models.mlp import ACTIVATIONS

PARSER_ACTIVATIONS = {**ACTIVATIONS, "cube": lambda x: x**3}


class TransitionParser(nn.Module):
    """Embeddings of features of stack and buffer, a hidden layer, and a score for each transition.

        x = [embedding(words), embedding(tags), embedding(labels)],   h = dropout((x W + b)^3),   logits = h V + c

    Layers are named `words`, `tags`, `labels`, `hidden` and `output`. In the paper's feature set 18
    words, their 18 tags and 12 labels of arcs give x 48 E = 2,400 entries.

    Attributes:
      words: size of the vocabulary of words.
      tags: of tags.
      transitions: number of logits; 3 for an unlabelled arc-standard parser, 2 L + 1 for L labels.
      labels: of labels of arcs; 0 for a parser that is given none.
      embedding: E, width of each embedding.
      hidden: H, width of the hidden layer.
      dropout: rate, on the hidden layer; training needs rngs={"dropout": key}.
      activation: "cube", or one of `models.mlp.ACTIVATIONS`.

    Raises:
      ValueError: an unknown activation, or labels without a vocabulary of them or the other way
        round, when the model is called.

    Differs from the paper:
      1. H and dropout are those of MSBP (500 and .2; 200 and .5 there), which says of its parser only
         that it is an MLP.
      2. Biases start at zero, the output has one as well, and embeddings start in [-.01, .01] as there.

    Reference: Chen and Manning, A Fast and Accurate Dependency Parser using Neural Networks (EMNLP 2014).

    Example:
      >>> model = TransitionParser(words=50, tags=9, transitions=3, embedding=4, hidden=6)
      >>> words, tags = jnp.zeros([2, 18], int), jnp.zeros([2, 18], int)
      >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), words, tags)
      >>> logits.shape, variables["params"]["hidden"]["kernel"].shape
      ((2, 3), (144, 6))
    """

    words: int
    tags: int
    transitions: int
    labels: int = 0
    embedding: int = 50
    hidden: int = 500
    dropout: float = 0.2
    activation: str = "cube"

    @nn.compact
    def __call__(
        self,
        words: jax.Array,
        tags: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Logits of the transitions.

        Args:
          words: int[B, F], words at F places of stack and buffer.
          tags: int[B, F'], their tags.
          labels: int[B, F''], labels of arcs already drawn; None for a parser without.
          train: whether dropout acts.

        Returns:
          [B, transitions], unnormalised log probabilities.
        """
        if self.activation not in PARSER_ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r} is unknown; choose one of {sorted(PARSER_ACTIVATIONS)}"
            )
        if (labels is None) != (self.labels == 0):
            raise ValueError(
                f"labels={self.labels}: a parser with a vocabulary of labels takes labels, one without takes none"
            )
        given = [("words", self.words, words), ("tags", self.tags, tags)]
        if labels is not None:
            given.append(("labels", self.labels, labels))

        def small(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -0.01, 0.01)

        x = jnp.concatenate(
            [
                nn.Embed(size, self.embedding, embedding_init=small, name=name)(ids).reshape(
                    ids.shape[0], -1
                )
                for name, size, ids in given
            ],
            -1,
        )
        he = nn.initializers.he_normal()
        x = nn.Dense(self.hidden, kernel_init=he, name="hidden")(x)
        x = PARSER_ACTIVATIONS[self.activation](x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.transitions, name="output")(x)
