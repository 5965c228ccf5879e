"""Random columns: the control that shows what looking at the gradient is worth."""

import dataclasses
import math
import zlib

import jax
import jax.numpy as jnp

from sparsetrain import numerics, selection
from sparsetrain.backward.rule import Selection, everything


@dataclasses.dataclass(frozen=True)
class RandomK:
    """See `random_k`."""

    density: float
    seed: int
    unbiased: bool = False
    layer: int = 0
    shares_columns: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        numerics.check_density(self.density)

    def at(self, path: str) -> "RandomK":
        return dataclasses.replace(self, layer=zlib.crc32(path.encode()))

    def width(self, outputs: int, rows: int) -> int | None:
        del rows
        width = selection.count(outputs, self.density)
        return width if width < outputs else None

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> jax.Array:
        del rows
        selection.count(math.prod(output_shape), self.density)
        return jnp.zeros((), jnp.float32)

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        count, outputs = cotangent.shape
        if memory is None:
            raise ValueError("memory=None: this rule needs the step counter that its init made")
        if self.width(outputs, count) is None:
            return everything(cotangent, memory)
        # The counter grows by R / rows a call, by one a step: every call of a step draws alike.
        step = jnp.round(memory).astype(jnp.int32)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), self.layer), step)
        columns = selection.random_columns(key, outputs, selection.count(outputs, self.density))
        values = cotangent.at[:, columns].get(mode="promise_in_bounds", unique_indices=True)
        if self.unbiased:
            values = values * jnp.asarray(outputs / columns.shape[0], values.dtype)
        share = jnp.asarray(1.0 if rows is None else count / rows, memory.dtype)
        return Selection(values, columns, jnp.broadcast_to(share, memory.shape))


def random_k(density: float, *, key: int, unbiased: bool = False) -> RandomK:
    """Keeps random columns, the same for all rows of a step.

        I = K columns drawn uniformly without replacement,    g = dh[:, I]      (times O / K if unbiased)

    Args:
      density: fraction of the columns that is kept, 0 < density <= 1.
      key: integer seed; the layer's path and the step are folded into it.
      unbiased: whether to scale by O / K, so that the estimate has the right mean (and a larger
        variance).

    Returns:
      A rule whose memory is a float32 step counter, exact up to 2^24 steps. Its memory is no error
      memory.

    Raises:
      ValueError: density outside (0, 1].

    Differs from the paper:
      1. In no paper of ours: a fixed gradient may have all its mass outside the draw, so the angle
         bound fails.

    Reference: none; the control for the "sparsifying functions" of Zhang et al. (arXiv 1905.10194),
    of which it is not one.

    Example:
      >>> import jax.numpy as jnp
      >>> rule = random_k(density=0.5, key=0)
      >>> chosen = rule.select(jnp.ones((2, 4)), rule.init((4,)))
      >>> chosen.values.shape, float(chosen.increment)
      ((2, 2), 1.0)
    """
    return RandomK(density, key, unbiased)
