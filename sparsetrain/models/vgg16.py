"""VGG-16 with batch norms: the network of the CIFAR and ImageNet columns of DLS, DGC and others."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from sparsetrain.models.resnet import norm_layer


class VGG16(nn.Module):
    """Thirteen 3 x 3 convolutions, each with a norm, five times halved, and fully connected layers.

        (conv w -> norm -> ReLU) x 2, 2, 3, 3, 3 with w, 2w, 4w, 8w, 8w -> each stage max pool 2 -> hidden -> classes

    Layers are named `conv_0` to `conv_12`, `norm_0` to `norm_12`, `hidden_0`, `hidden_1` and
    `output`. Images of 224 x 224 and 1000 classes give 138,365,992 parameters; the usual form for
    CIFAR, VGG16(classes=10, hidden=()), has 14,728,266.

    Attributes:
      classes: number of logits.
      stages: convolutions of each stage.
      width: w, channels of the first stage.
      hidden: outputs of the fully connected layers; () for none, as is usual with CIFAR.
      dropout: rate behind each of these; training needs rngs={"dropout": key} if there are any.
      norm: "batch" or "group", as for `ResNet`.

    Raises:
      ValueError: an unknown norm, when the model is called.

    Differs from the paper:
      1. Norms behind the convolutions (configuration D had none); convolutions keep their biases.
      2. Weights start from the normal distribution of He et al., biases at zero.

    Reference: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition
    (arXiv 1409.1556).

    Example:
      >>> import jax.numpy as jnp
      >>> shapes = jax.eval_shape(VGG16().init, jax.random.key(0), jnp.ones([1, 224, 224, 3]))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
      138365992
    """

    classes: int = 1000
    stages: Sequence[int] = (2, 2, 3, 3, 3)
    width: int = 64
    hidden: Sequence[int] = (4096, 4096)
    dropout: float = 0.5
    norm: str = "batch"

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits.

        Args:
          inputs: [B, H, W, C] float, H and W at least 2 to the number of stages.
          train: whether batch norms use, and record, the statistics of this batch, and dropout acts.

        Returns:
          [B, classes], unnormalised log probabilities.
        """
        norm = norm_layer(self.norm, self.width, train)
        he = nn.initializers.he_normal()
        x, number = inputs, 0
        for stage, convolutions in enumerate(self.stages):
            # Channels double until they are eight times the first.
            width = self.width << min(stage, 3)
            for _ in range(convolutions):
                x = nn.Conv(width, (3, 3), padding=1, kernel_init=he, name=f"conv_{number}")(x)
                x = nn.relu(norm(name=f"norm_{number}")(x))
                number += 1
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for place, width in enumerate(self.hidden):
            x = nn.relu(nn.Dense(width, kernel_init=he, name=f"hidden_{place}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, name="output")(x)
