"""SSD300 on a residual network: the detector of the COCO table of grow-and-prune."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsetrain.models.resnet import norm_layer
from sparsetrain.models.resnet50 import Bottleneck


class Basic(nn.Module):
    """Two 3 x 3 convolutions with their norms, and a shortcut beside them.

    Attributes:
      width: outputs.
      stride: of the first convolution.
      norm: makes a norm layer of a name.
    """

    width: int
    stride: int
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, width]."""

        def conv(size: int, strides: int, name: str) -> nn.Conv:
            return nn.Conv(
                self.width,
                (size, size),
                (strides, strides),
                padding=size // 2,
                use_bias=False,
                kernel_init=nn.initializers.he_normal(),
                name=name,
            )

        y = nn.relu(self.norm(name="norm_0")(conv(3, self.stride, "conv_0")(x)))
        y = self.norm(name="norm_1")(conv(3, 1, "conv_1")(y))
        if x.shape != y.shape:
            x = self.norm(name="shortcut_norm")(conv(1, self.stride, "shortcut")(x))
        return nn.relu(x + y)


BACKBONES: dict[str, type] = {"resnet34": Basic, "resnet50": Bottleneck}


class SSD300(nn.Module):
    """Offsets and classes of default boxes, read from maps of falling size.

        ResNet up to its third stage, which has stride 1 -> 38 x 38 -> extra_0 .. extra_4 -> 19, 10, 5, 3, 1
        offsets_k, logits_k: 3 x 3 convolutions on map k, for 4, 6, 6, 6, 4, 4 boxes a cell

    An image of 300 x 300 has 8732 default boxes, those of `boxes.default_boxes()`, in their order.
    `stage_\\d.*` with `conv` is the backbone, `(offsets|logits)_\\d/kernel` the output layer that the
    paper keeps dense. With 81 classes the ResNet-34 form has 19,975,222 parameters, the ResNet-50
    form 22,894,902.

    Attributes:
      classes: C, background among them; 81 for COCO.
      backbone: "resnet34" or "resnet50".
      stages: blocks of each stage.
      width: w, channels of the first stage.
      extras: stride of each extra layer; 2 halves a map, 1 takes a cell off each side.
      boxes: default boxes a cell, of each map.
      norm: "batch" or "group", as for `ResNet`.

    Raises:
      ValueError: an unknown backbone or norm, or not one number of boxes for each map, when the model
        is called.

    Differs from the paper:
      1. SSD stood on VGG-16. Grow-and-prune takes NVIDIA's DeepLearningExamples as its dense baseline
         and names no backbone. That code has both of these; its default is ResNet-50, whose published .252
         with batches of 64 is the table's dense row. ResNet-34 is MLPerf's.
      2. A cell's outputs stand together, cell by cell; there all cells of one kind of box do.

    Reference: Liu et al., SSD: Single Shot MultiBox Detector (arXiv 1512.02325).

    Example:
      >>> model = SSD300()
      >>> shapes, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.ones([1, 300, 300, 3]))
      >>> [output.shape for output in shapes]
      [(1, 8732, 4), (1, 8732, 81)]
    """

    classes: int = 81
    backbone: str = "resnet34"
    stages: Sequence[int] = (3, 4, 6)
    width: int = 64
    extras: Sequence[int] = (2, 2, 2, 1, 1)
    boxes: Sequence[int] = (4, 6, 6, 6, 4, 4)
    norm: str = "batch"

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """What the network says of each default box.

        Args:
          inputs: [B, H, W, 3] float.
          train: whether batch norms use, and record, the statistics of this batch.

        Returns:
          Offsets [B, D, 4], of `boxes.encode`, and logits [B, D, C], class 0 is background.
        """
        if self.backbone not in BACKBONES:
            raise ValueError(
                f"backbone={self.backbone!r} is unknown; choose one of {sorted(BACKBONES)}"
            )
        if len(self.boxes) != 1 + len(self.extras):
            raise ValueError(
                f"boxes={self.boxes}: one number for each of the {1 + len(self.extras)} maps"
            )
        norm = norm_layer(self.norm, self.width, train)
        he, xavier = nn.initializers.he_normal(), nn.initializers.xavier_uniform()
        x = nn.Conv(
            self.width, (7, 7), (2, 2), padding=3, use_bias=False, kernel_init=he, name="conv"
        )(inputs)
        x = nn.relu(norm(name="norm")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        block = BACKBONES[self.backbone]
        for stage, blocks in enumerate(self.stages):
            for number in range(blocks):
                # Only the second stage halves the map: boxes need a fine one.
                stride = 2 if stage == 1 and not number else 1
                name = f"stage_{stage}_block_{number}"
                x = block(self.width << stage, stride, norm, name=name)(x)
        maps = [x]
        for number, stride in enumerate(self.extras):
            inner = self.width * (4 if number < 2 else 2)
            outer = self.width * (8 if number < 2 else 4)
            name = f"extra_{number}"
            x = nn.Conv(inner, (1, 1), use_bias=False, kernel_init=xavier, name=f"{name}_conv_0")(x)
            x = nn.relu(norm(name=f"{name}_norm_0")(x))
            x = nn.Conv(
                outer,
                (3, 3),
                (stride, stride),
                padding=1 if stride == 2 else 0,
                use_bias=False,
                kernel_init=xavier,
                name=f"{name}_conv_1",
            )(x)
            x = nn.relu(norm(name=f"{name}_norm_1")(x))
            maps.append(x)

        def read(kind: str, outputs: int) -> jax.Array:
            """[B, D, outputs]."""
            said = []
            for number, (x, boxes) in enumerate(zip(maps, self.boxes, strict=True)):
                layer = nn.Conv(
                    boxes * outputs, (3, 3), padding=1, kernel_init=xavier, name=f"{kind}_{number}"
                )
                said.append(layer(x).reshape(x.shape[0], -1, outputs))
            return jnp.concatenate(said, 1)

        return read("offsets", 4), read("logits", self.classes)
