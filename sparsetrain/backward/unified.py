"""Unified selection: the whole batch keeps the same columns, so the products become smaller dense products."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from sparsetrain import numerics, selection
from sparsetrain.backward.decay import check_decay, decay_factor
from sparsetrain.backward.memorized import add_share, zeros_memory
from sparsetrain.backward.rule import Blocks, Selection, check_groups, everything
from sparsetrain.selection.structured import SCORES


@dataclasses.dataclass(frozen=True)
class UnifiedTopK:
    """See `unified_top_k`."""

    density: float
    decay: float | str = 0.0
    score: str = "l1"
    block: int = 1
    shares_columns: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        numerics.check_density(self.density)
        check_decay(self.decay)
        if self.score not in SCORES:
            raise ValueError(f"score={self.score!r}: choose one of {SCORES}")
        if self.block < 1:
            raise ValueError(
                f"block={self.block}: must be at least 1, the number of neighbouring columns"
            )

    def at(self, path: str) -> "UnifiedTopK":
        del path
        return self

    def _blocks(self, outputs: int) -> int:
        return selection.count(outputs // self.block, self.density)

    def width(self, outputs: int, rows: int) -> int | None:
        del rows
        width = self._blocks(outputs) * self.block
        return width if width < outputs else None

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> jax.Array | None:
        del rows
        check_groups(math.prod(output_shape), self.block, "block")
        return zeros_memory(output_shape) if self.decay != 0 else None

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        count, outputs = cotangent.shape
        if self.width(outputs, count) is None:
            return everything(cotangent, memory)
        if memory is None:
            u = cotangent
        else:
            u, received, share = add_share(cotangent, memory, rows)
        scores = selection.column_scores(u, self.score)
        numbers = selection.top_blocks(scores, self._blocks(outputs), self.block)
        columns = selection.columns_of(numbers, self.block)
        values = u.at[:, columns].get(mode="promise_in_bounds", unique_indices=True)
        if memory is None:
            blocks = Blocks(cotangent, numbers) if self.block > 1 else None
            return Selection(values, columns, None, blocks=blocks)
        total = jnp.sum(received, axis=0)
        carried = count * share[0]
        remainder = (total + carried).at[columns].set(0, unique_indices=True)
        decay = decay_factor(self.decay, received, share)
        increment = numerics.keep_if_finite(decay * remainder - carried, total)
        return Selection(values.astype(cotangent.dtype), columns, increment)


def unified_top_k(
    density: float, decay: float | str = 0.0, score: str = "l1", block: int = 1
) -> UnifiedTopK:
    """Sparse backpropagation with one column set for the batch: the form that saves time on any
    hardware.

        c_j = sum_i |u_ij|  (l1)   or   sum_i u_ij^2  (l2),      I = the K largest c_j
        g = u[:, I],    dx = g W[:, I]^T,    dW[:, I] = x^T g
        u = dh  (decay = 0)   or   dh + M / rows,  M as in `memorized_top_k`

    In a convolution the columns are channels, and the mean of the memory is also taken over
    positions.

    With blocks of 64 or 128 columns and decay = 0, layers in bfloat16 or float16 whose inputs are a
    multiple of 128 have both products from `sparsetrain.kernels` where these run (Hopper; TPU, for 128
    columns and bfloat16): the kept columns are read where they are, and nothing is gathered. With a
    memory u is no array in memory, so its kept columns are written once, in the pass that forms
    them, and multiplied as they then lie; convolutions stay with XLA.

    Args:
      density: fraction of the columns that is kept, 0 < density <= 1.
      decay: the memory ratio, 0 <= decay < 1, or "adaptive"; 0 keeps no memory.
      score: "l1" as meProp's code has it, or "l2", which guarantees that K/O of the squared mass is
        kept.
      block: neighbouring columns kept or dropped together; must divide the outputs.

    Returns:
      A rule whose memory is float32 [output shape], or None for decay = 0.

    Raises:
      ValueError: an argument out of range; at `init`, a block that does not divide the outputs.

    Differs from the paper:
      1. The MSBP paper does not treat unified selection; the memory here is our extension. It is
         zero on the columns just used. No gain over decay = 0 was measured so far.
      2. meProp's text speaks of averaged values (unverified); its code sums absolute values, and so
         does "l1".

    Reference: Sun et al., meProp, ICML 2017 (arXiv 1706.06197), `linearUnified` of its reference
    code.

    Example:
      >>> import jax.numpy as jnp
      >>> rule = unified_top_k(density=0.34)
      >>> chosen = rule.select(jnp.array([[1.0, -2.0, 0.5], [0.2, 0.1, -0.4]]), None)
      >>> chosen.kept.tolist(), chosen.values.shape
      ([1], (2, 1))
    """
    return UnifiedTopK(density, decay, score, block)
