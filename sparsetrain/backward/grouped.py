"""Unified selection by groups of rows: between one column set for the batch and one for every example."""

import dataclasses

import jax
import jax.numpy as jnp

from sparsetrain import numerics, selection
from sparsetrain.backward.decay import check_decay, decay_factor
from sparsetrain.backward.memorized import add_share, zeros_memory
from sparsetrain.backward.rule import Selection, everything
from sparsetrain.backward.top_k import keep_columns, union_width


@dataclasses.dataclass(frozen=True)
class GroupedTopK:
    """See `grouped_top_k`."""

    density: float
    row_groups: int
    decay: float | str = 0.0
    shares_columns: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        numerics.check_density(self.density)
        check_decay(self.decay)
        if self.row_groups < 1:
            raise ValueError(f"row_groups={self.row_groups}: must be at least 1")

    def at(self, path: str) -> "GroupedTopK":
        del path
        return self

    def width(self, outputs: int, rows: int) -> int | None:
        del rows
        return union_width(outputs, self.row_groups * selection.count(outputs, self.density))

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> jax.Array | None:
        del rows
        return zeros_memory(output_shape) if self.decay != 0 else None

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        count, outputs = cotangent.shape
        kept_outputs = selection.count(outputs, self.density)
        if count % self.row_groups:
            raise ValueError(
                f"row_groups={self.row_groups}: must divide the {count} rows of a call; choose a "
                "divisor of the batch size, and drop the partial last batch"
            )
        if kept_outputs == outputs:
            return everything(cotangent, memory)
        if memory is None:
            u = cotangent
        else:
            u, received, share = add_share(cotangent, memory, rows)
        scores = jnp.sum(jnp.abs(u).reshape(self.row_groups, -1, outputs), axis=1)
        columns = selection.top_k_columns(scores, kept_outputs)
        selected, remainder = keep_columns(u, columns)
        if memory is None:
            return selected
        decay = decay_factor(self.decay, received, share)
        increment = decay * jnp.sum(remainder, axis=0) - count * share[0]
        increment = numerics.keep_if_finite(increment, jnp.sum(received, axis=0))
        return selected.astype(cotangent.dtype)._replace(increment=increment)


def grouped_top_k(density: float, row_groups: int = 8, decay: float | str = 0.0) -> GroupedTopK:
    """Unified selection within each of a few groups of rows, with a memory that all of them share.

        c_gj = sum_{i in group g} |u_ij|,    I_g = the k largest c_gj,    g_i = u_i on I_g
        u = dh  (decay = 0)   or   dh + M / rows,  M as in `memorized_top_k`

    With one group this is `unified_top_k`, with as many groups as rows `memorized_top_k`. A few
    groups have most of the accuracy of the second, and the products still run over the union of at
    most row_groups * k columns.

    Args:
      density: fraction of the outputs that a group keeps, 0 < density <= 1.
      row_groups: number of equal runs of rows; divides the rows of every call.
      decay: the memory ratio, 0 <= decay < 1, or "adaptive"; 0 keeps no memory.

    Returns:
      A rule whose memory is float32 [output shape], or None for decay = 0.

    Raises:
      ValueError: an argument out of range; at `select`, groups that do not divide the rows.

    Differs from the paper:
      1. In no paper: our answer to the accuracy that unified selection loses to selection per
         example.

    Example:
      >>> import jax.numpy as jnp
      >>> rule = grouped_top_k(density=0.34, row_groups=2)
      >>> rule.select(jnp.array([[1.0, -2.0, 0.5], [0.2, 0.1, -0.4]]), None).to_dense(3).tolist()
      [[0.0, -2.0, 0.0], [0.0, 0.0, -0.4000000059604645]]
    """
    return GroupedTopK(density, row_groups, decay)
