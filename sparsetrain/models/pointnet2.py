"""PointNet++ for parts of shapes: the network of the ShapeNet table of grow-and-prune."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsetrain.models.points import ball_query, farthest_points, interpolate
from sparsetrain.models.resnet import norm_layer

# (centres, ((radius, samples, widths), ...)) of each level but the last, which takes all points as one.
Levels = Sequence[tuple[int, Sequence[tuple[float, int, Sequence[int]]]]]
SINGLE_SCALE: Levels = (
    (512, ((0.2, 32, (64, 64, 128)),)),
    (128, ((0.4, 64, (128, 128, 256)),)),
)
MULTI_SCALE: Levels = (
    (512, ((0.1, 32, (32, 32, 64)), (0.2, 64, (64, 64, 128)), (0.4, 128, (64, 96, 128)))),
    (128, ((0.4, 64, (128, 128, 256)), (0.8, 128, (128, 196, 256)))),
)


class SharedMLP(nn.Module):
    """Dense layers with norm and ReLU, `dense_0`, `norm_0`, ..., the same for every point.

    Attributes:
      widths: outputs of each.
      norm: makes a norm layer of a name.
    """

    widths: Sequence[int]
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., widths[-1]]."""
        for number, width in enumerate(self.widths):
            x = nn.Dense(width, kernel_init=nn.initializers.he_normal(), name=f"dense_{number}")(x)
            x = nn.relu(self.norm(name=f"norm_{number}")(x))
        return x


class PointNet2(nn.Module):
    """Set abstraction down to one vector, feature propagation back to every point, and a part for each.

        level k: farthest points -> balls around them -> {shared MLP -> max over the ball : radius}, concatenated
        last: shared MLP of all -> max;    back: interpolate from 3 nearest, concatenate, shared MLP
        points, with the shape's category and what the last step back gave -> head -> dropout -> output

    Layers are `down_0_0` (level, scale), `down_1_0`, `down_2`, `up_2`, `up_1`, `up_0`, `head`, `output`, each
    with `dense_n/kernel`: `down_.*` is the backbone. The single-scale model of 16 categories and 50 parts
    has 1,411,250 parameters; levels=MULTI_SCALE, back=((256, 256), (256, 128), (128, 128)) is the other.

    Attributes:
      parts: number of logits a point.
      categories: of shapes; 0 if the model is not told.
      levels: see `SINGLE_SCALE`.
      last: widths of the level that takes all points as one.
      back: widths of the steps back, the coarsest first.
      head: width before the output.
      dropout: rate before the output; training needs rngs={"dropout": key}.
      norm: "batch" or "group", as for `ResNet`.

    Raises:
      ValueError: steps back that do not fit the levels, or an unknown norm, when the model is called.

    Differs from the paper:
      1. Sizes are those of the code that grow-and-prune starts from (Yan 2019). The table's dense row
         (82.5, 85.4) is that code's multi-scale model, whose command gives it normals as well; its
         single-scale one is told with 81.8 and 84.9. The paper does not say which it pruned.
      2. Farthest points start from the first point, there from a random one.

    Reference: Qi et al., PointNet++ (arXiv 1706.02413).

    Example:
      >>> model = PointNet2()
      >>> points, category = jnp.zeros([2, 2048, 3]), jnp.zeros([2], int)
      >>> shapes, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), points, category)
      >>> shapes.shape
      (2, 2048, 50)
    """

    parts: int = 50
    categories: int = 16
    levels: Levels = SINGLE_SCALE
    last: Sequence[int] = (256, 512, 1024)
    back: Sequence[Sequence[int]] = ((256, 256), (256, 128), (128, 128, 128))
    head: int = 128
    dropout: float = 0.5
    norm: str = "batch"

    @nn.compact
    def __call__(
        self, points: jax.Array, category: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Logits of each point's part.

        Args:
          points: [B, N, 3 + C] float: coordinates, then normals or whatever else is known.
          category: int[B], of the shape; None for a model of no categories.
          train: whether batch norms use, and record, the statistics of this batch, and dropout acts.

        Returns:
          [B, N, parts], unnormalised log probabilities.
        """
        if len(self.back) != 1 + len(self.levels):
            raise ValueError(
                f"back={self.back}: needs one step for each of {len(self.levels)} levels and the last"
            )
        if (category is None) != (self.categories == 0):
            raise ValueError(
                f"categories={self.categories}: the model takes a category if and only if it has some"
            )
        norm = norm_layer(self.norm, 64, train)
        # Every level as (coordinates, features), from all points to one.
        cloud = [(points[..., :3], points)]
        for level, (count, scales) in enumerate(self.levels):
            places, features = cloud[-1]
            centres = _take(places, jax.vmap(lambda p, n=count: farthest_points(p, n))(places))
            found = []
            for scale, (radius, samples, widths) in enumerate(scales):
                rows = jax.vmap(lambda p, c, r=radius, s=samples: ball_query(p, c, r, s))(
                    places, centres
                )
                near = _take(places, rows) - centres[:, :, None]
                x = jnp.concatenate([near, _take(features, rows)], -1)
                x = SharedMLP(widths, norm, name=f"down_{level}_{scale}")(x)
                found.append(x.max(2))
            cloud.append((centres, jnp.concatenate(found, -1)))
        x = jnp.concatenate(cloud[-1], -1)
        x = SharedMLP(self.last, norm, name=f"down_{len(self.levels)}")(x).max(1, keepdims=True)
        cloud.append((jnp.zeros_like(x[..., :3]), x))
        if category is not None:
            told = jax.nn.one_hot(category, self.categories, dtype=points.dtype)[:, None]
            told = jnp.repeat(told, points.shape[1], 1)
            cloud[0] = (points[..., :3], jnp.concatenate([told, points[..., :3], points], -1))
        centres, x = cloud.pop()
        for widths in self.back:
            places, features = cloud.pop()
            x = jnp.concatenate([features, jax.vmap(interpolate)(places, centres, x)], -1)
            x, centres = SharedMLP(widths, norm, name=f"up_{len(cloud)}")(x), places
        x = SharedMLP((self.head,), norm, name="head")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.parts, name="output")(x)


def _take(rows: jax.Array, indices: jax.Array) -> jax.Array:
    """[B, N, C], int[B, ...] -> [B, ..., C]."""
    return jax.vmap(lambda of_one, places: of_one[places])(rows, indices)
