"""LeNet5 as in Caffe's examples: the network of the MNIST column of Sparse Binary Compression."""

import jax
from flax import linen as nn


class LeNet5(nn.Module):
    """Two convolutions with pooling, and two fully connected layers.

        x -> conv 5x5, 20 -> max pool 2 -> conv 5x5, 50 -> max pool 2 -> 500 -> ReLU -> classes

    Convolutions are valid ones and without an activation, as in Caffe. Layers are named `conv_0`,
    `conv_1`, `hidden` and `output`. Weights start from Glorot's uniform distribution (Caffe's
    "xavier"), biases at zero. Images of 28 x 28 give 431,080 parameters.

    Attributes:
      classes: number of logits.
      channels: outputs of the two convolutions.
      hidden: outputs of the fully connected layer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = LeNet5()
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones([1, 28, 28, 1]))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes))
      431080
    """

    classes: int = 10
    channels: tuple[int, int] = (20, 50)
    hidden: int = 500

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits.

        Args:
          inputs: [B, H, W, C] float.
          train: taken for the sake of the training loop; nothing depends on it.

        Returns:
          [B, classes], unnormalised log probabilities.
        """
        del train
        glorot = nn.initializers.glorot_uniform()
        x = inputs
        for number, width in enumerate(self.channels):
            x = nn.Conv(width, (5, 5), padding="VALID", kernel_init=glorot, name=f"conv_{number}")(
                x
            )
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.hidden, kernel_init=glorot, name="hidden")(x))
        return nn.Dense(self.classes, kernel_init=glorot, name="output")(x)
