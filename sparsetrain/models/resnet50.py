"""ResNet for ImageNet: bottleneck blocks, as in Table 1 of the ResNet paper."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsetrain.models.resnet import norm_layer


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with their norms, and a shortcut beside them.

    Attributes:
      width: channels of the 3 x 3 convolution; the block has four times as many outputs.
      stride: of the 3 x 3 convolution.
      norm: makes a norm layer of a name.
    """

    width: int
    stride: int
    norm: Callable[..., Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, 4 width]."""
        he = nn.initializers.he_normal()
        strides, outputs = (self.stride, self.stride), 4 * self.width

        def conv(width: int, size: int, strides: Any, name: str) -> nn.Conv:
            return nn.Conv(
                width,
                (size, size),
                strides,
                padding=size // 2,
                use_bias=False,
                kernel_init=he,
                name=name,
            )

        y = nn.relu(self.norm(name="norm_0")(conv(self.width, 1, 1, "conv_0")(x)))
        y = nn.relu(self.norm(name="norm_1")(conv(self.width, 3, strides, "conv_1")(y)))
        y = self.norm(name="norm_2")(conv(outputs, 1, 1, "conv_2")(y))
        if x.shape != y.shape:
            x = self.norm(name="shortcut_norm")(conv(outputs, 1, strides, "shortcut")(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """Residual network of bottleneck blocks: 50 layers with 3, 4, 6 and 3 of them.

        conv 7x7 / 2 -> max pool / 2 -> 4 stages, widths w, 2w, 4w, 8w -> mean -> classes

    Layers are named `conv`, `stage_0_block_0`, ..., `stage_3_block_2`, `output`.
    25,557,032 parameters with 1000 classes.

    Attributes:
      stages: blocks of each stage; (3, 4, 23, 3) is ResNet-101.
      classes: number of logits.
      width: w.
      norm: "batch" or "group", as for `ResNet`.

    Raises:
      ValueError: an unknown norm, when the model is called.

    Differs from the paper:
      1. The 3 x 3 convolution has a block's stride, not the first 1 x 1 ("v1.5"): 8.2 GFLOPs an
         image of 224 x 224, the figure that papers on sparsity start from, instead of 7.7.

    Reference: He et al., Deep Residual Learning for Image Recognition (arXiv 1512.03385).

    Example:
      >>> shapes = jax.eval_shape(ResNet50().init, jax.random.key(0), jnp.ones([1, 224, 224, 3]))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
      25557032
    """

    stages: Sequence[int] = (3, 4, 6, 3)
    classes: int = 1000
    width: int = 64
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
        x = nn.Conv(
            self.width, (7, 7), (2, 2), padding=3, use_bias=False, kernel_init=he, name="conv"
        )(inputs)
        x = nn.relu(norm(name="norm")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.stages):
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                name = f"stage_{stage}_block_{number}"
                x = Bottleneck(self.width << stage, stride, norm, name=name)(x)
        return nn.Dense(self.classes, name="output")(jnp.mean(x, (1, 2)))
