"""ResNet for CIFAR: 6 n + 2 layers, as in section 4.2 of the ResNet paper."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

NORMS = ("batch", "group")


def norm_layer(name: str, width: int, train: bool) -> Any:
    """Makes norm layers of one kind: (name=...) -> module.

    Args:
      name: "batch" or "group".
      width: channels of the narrowest layer; group norms have 8 groups where it has so many.
      train: whether batch norms use, and record, the statistics of the batch.

    Raises:
      ValueError: an unknown name.
    """
    if name not in NORMS:
        raise ValueError(f"norm={name!r} is unknown; choose one of {NORMS}")
    if name == "batch":
        return functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
    return functools.partial(nn.GroupNorm, num_groups=min(8, width))


class Block(nn.Module):
    """Two 3 x 3 convolutions with their norms, and the identity beside them.

    Attributes:
      width: outputs.
      stride: of the first convolution.
      norm: makes a norm layer of a name.
    """

    width: int
    stride: int
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, width]."""
        he = nn.initializers.he_normal()
        strides = (self.stride, self.stride)
        y = nn.Conv(
            self.width, (3, 3), strides, padding=1, use_bias=False, kernel_init=he, name="conv_0"
        )(x)
        y = nn.relu(self.norm(name="norm_0")(y))
        y = nn.Conv(self.width, (3, 3), padding=1, use_bias=False, kernel_init=he, name="conv_1")(y)
        y = self.norm(name="norm_1")(y)
        # Option A of the paper: pixels are skipped and channels padded, without parameters.
        missing = self.width - x.shape[-1]
        x = x[:, :: self.stride, :: self.stride]
        return nn.relu(
            y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))
        )


class ResNet(nn.Module):
    """Residual network of 6 n + 2 layers: n = 3 is ResNet-20, n = 5 ResNet-32.

        conv 3x3 -> 3 stages of n blocks, widths w, 2w, 4w, at full, half and quarter resolution -> mean -> classes

    Layers are named `conv`, `block_0`, ..., `output`. Weights start from the normal distribution of He
    et al., biases at zero. ResNet-20 has 269,722 parameters with 10 classes.

    Attributes:
      blocks: n, blocks of a stage.
      classes: number of logits.
      width: w, channels of the first stage.
      norm: "batch" (a "batch_stats" collection, mutable in training) or "group" (without state, for
        clients that do not share statistics).

    Raises:
      ValueError: an unknown norm, when the model is called.

    Reference: He et al., Deep Residual Learning for Image Recognition (arXiv 1512.03385).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> shapes = jax.eval_shape(ResNet().init, jax.random.key(0), jnp.ones([1, 32, 32, 3]))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
      269722
    """

    blocks: int = 3
    classes: int = 10
    width: int = 16
    norm: str = "batch"

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits.

        Args:
          inputs: [B, H, W, C] float.
          train: whether batch norms use, and record, the statistics of this batch.

        Returns:
          [B, classes], unnormalised log probabilities.
        """
        norm = norm_layer(self.norm, self.width, train)
        he = nn.initializers.he_normal()
        x = nn.Conv(self.width, (3, 3), padding=1, use_bias=False, kernel_init=he, name="conv")(
            inputs
        )
        x = nn.relu(norm(name="norm")(x))
        for number in range(3 * self.blocks):
            stage, place = divmod(number, self.blocks)
            stride = 2 if stage and not place else 1
            x = Block(self.width << stage, stride, norm, name=f"block_{number}")(x)
        return nn.Dense(self.classes, kernel_init=he, name="output")(jnp.mean(x, (1, 2)))
