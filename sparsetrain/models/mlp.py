"""Multilayer perceptron: the network of the MNIST tables of meProp and MSBP."""

from collections.abc import Sequence

import jax
from flax import linen as nn

ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "tanh": nn.tanh, "sigmoid": nn.sigmoid}


class MLP(nn.Module):
    """Fully connected network with dropout after every hidden layer.

        h_l = dropout(activation(h_{l-1} W_l + b_l)),    logits = h_L W + b

    Layers are named `hidden_0`, `hidden_1`, ... and `output`. Weights start from the normal
    distribution of He et al. (arXiv 1502.01852), biases at zero. MLP(hidden=(300, 100)) is LeNet-300-100
    of LeCun et al. (1998), as papers on pruning have it: 266,610 parameters with images of 28 x 28.

    Attributes:
      hidden: outputs of each hidden layer.
      classes: number of logits.
      dropout: share of hidden units dropped in training, 0 <= dropout < 1.
      activation: one of `ACTIVATIONS`.

    Raises:
      ValueError: an unknown activation or a dropout outside [0, 1), when the model is called.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = MLP(hidden=(16, 16), classes=10)
      >>> images = jnp.ones([2, 8, 8, 1])
      >>> params = model.init(jax.random.key(0), images)
      >>> model.apply(params, images).shape
      (2, 10)
    """

    hidden: Sequence[int] = (500, 500)
    classes: int = 10
    dropout: float = 0.0
    activation: str = "relu"

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits.

        Args:
          inputs: [B, ...] float; everything behind the batch axis is flattened.
          train: whether dropout is on; it then takes its key from the "dropout" stream.

        Returns:
          [B, classes], unnormalised log probabilities.
        """
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r} is unknown; choose one of {sorted(ACTIVATIONS)}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout}: must lie in [0, 1); 0 switches it off")
        he = nn.initializers.he_normal()
        x = inputs.reshape(inputs.shape[0], -1)
        for number, width in enumerate(self.hidden):
            x = nn.Dense(width, kernel_init=he, name=f"hidden_{number}")(x)
            x = ACTIVATIONS[self.activation](x)
            if self.dropout > 0.0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, kernel_init=he, name="output")(x)
