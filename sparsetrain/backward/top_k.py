"""SBP (meProp): every example keeps the k largest entries of its output gradient."""

import dataclasses

import jax
import jax.numpy as jnp

from sparsetrain import numerics, selection
from sparsetrain.backward.pairs import Pairs
from sparsetrain.backward.rule import Selection, check_groups, everything

# A compact selection pays only while the union of all rows' choices stays well below the outputs.
UNION_LIMIT = 0.25


def kept_per_row(outputs: int, density: float, groups: int) -> int:
    """Entries that one row keeps, all groups together."""
    return groups * selection.count(check_groups(outputs, groups), density)


def union_width(outputs: int, choices: int) -> int | None:
    """Columns in the union of so many choices, or None where a mask is the better form."""
    return choices if choices <= UNION_LIMIT * outputs else None


def row_columns(u: jax.Array, density: float, groups: int) -> jax.Array:
    """The k largest entries of every row [R, K], k of each group of outputs."""
    rows, outputs = u.shape
    size = check_groups(outputs, groups)
    per_group = selection.top_k_columns(
        u.reshape(rows, groups, size), selection.count(size, density)
    )
    offsets = size * jnp.arange(groups, dtype=jnp.int32)[:, None]
    return (per_group + offsets[None]).reshape(rows, -1)


def keep_columns(u: jax.Array, columns: jax.Array) -> tuple[Selection, jax.Array]:
    """The chosen entries of every row, in the cheaper of two forms.

    Args:
      u: [R, O].
      columns: [G, K] int32; G divides R, and each of G equal runs of rows has one line.

    Returns:
      selection: without an increment; with `pairs` where it is a union and every row chose for
        itself.
      remainder: [R, O], u with the kept entries set to zero.
    """
    rows, outputs = u.shape
    each = rows // max(1, columns.shape[0])
    row = jnp.arange(rows, dtype=jnp.int32)[:, None]
    chosen = jnp.repeat(columns, each, axis=0)
    if union_width(outputs, columns.size) is None:
        mask = jnp.zeros(u.shape, bool).at[row, chosen].set(True, unique_indices=True)
        return Selection(jnp.where(mask, u, 0), mask, None), jnp.where(mask, 0, u)
    union, places = selection.union_columns(columns, outputs)
    places = jnp.repeat(places, each, axis=0)
    entries = jnp.take_along_axis(u, chosen, axis=1)
    values = jnp.zeros((rows, union.shape[0]), u.dtype)
    values = values.at[row, places].set(entries, unique_indices=True)
    # Rows that share their columns fill the dense product well enough.
    pairs = Pairs(entries, places) if each == 1 else None
    remainder = u.at[row, chosen].set(0, unique_indices=True)
    return Selection(values, union, None, pairs), remainder


@dataclasses.dataclass(frozen=True)
class TopK:
    """See `top_k`."""

    density: float
    groups: int = 1
    shares_columns: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        numerics.check_density(self.density)

    def at(self, path: str) -> "TopK":
        del path
        return self

    def width(self, outputs: int, rows: int) -> int | None:
        return union_width(outputs, rows * kept_per_row(outputs, self.density, self.groups))

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> None:
        del rows
        outputs = 1
        for size in output_shape:
            outputs *= size
        check_groups(outputs, self.groups)

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        del rows
        outputs = cotangent.shape[1]
        if kept_per_row(outputs, self.density, self.groups) == outputs:
            return everything(cotangent, memory)
        columns = row_columns(cotangent, self.density, self.groups)
        return keep_columns(cotangent, columns)[0]


def top_k(density: float, *, groups: int = 1) -> TopK:
    """Sparse backpropagation: each example keeps its largest output-gradient entries.

        g_i = S_k(dh_i),    dx = g W^T,    dW = x^T g,    k = round(density * O)

    Where B * k is at most a quarter of O, the products run over the union of the rows' columns
    only. Else they are dense products with a masked operand, which save no time on dense hardware.

    Args:
      density: fraction of a row's outputs that is kept, 0 < density <= 1; 1 is plain
        backpropagation.
      groups: equal groups of outputs that each keep their own k, for fused gates (4 for an LSTM's).

    Returns:
      A rule without memory.

    Raises:
      ValueError: density outside (0, 1]; at `init`, groups that do not divide the outputs.

    Differs from the paper:
      1. k follows from a density, and is at least 1. The reference code reads k <= 0 as "dense":
         use `dense()`.
      2. A NaN counts as the largest magnitude, so it is kept and propagates.

    Reference: Sun et al., meProp, ICML 2017 (arXiv 1706.06197); SBP in Zhang et al., Memorized
    Sparse Backpropagation (arXiv 1905.10194).

    Example:
      >>> import jax.numpy as jnp
      >>> rule = top_k(density=0.34)
      >>> rule.select(jnp.array([[1.0, -2.0, 0.5]]), None).values.tolist()
      [[0.0, -2.0, 0.0]]
    """
    return TopK(density, groups)
