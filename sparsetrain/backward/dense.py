"""Plain backpropagation as a rule: exempts a layer from a later, wider regular expression."""

import dataclasses

import jax

from sparsetrain.backward.rule import Selection, everything


@dataclasses.dataclass(frozen=True)
class Dense:
    """See `dense`."""

    shares_columns: bool = dataclasses.field(default=False, init=False)

    def at(self, path: str) -> "Dense":
        del path
        return self

    def width(self, outputs: int, rows: int) -> None:
        del outputs, rows

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> None:
        del output_shape, rows

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        del rows
        return everything(cotangent, memory)


def dense() -> Dense:
    """Plain backpropagation.

        g = dh

    Returns:
      A rule without memory that keeps every entry.

    Example:
      >>> import jax.numpy as jnp
      >>> dense().select(jnp.array([[1.0, -2.0]]), None).values.tolist()
      [[1.0, -2.0]]
    """
    return Dense()
