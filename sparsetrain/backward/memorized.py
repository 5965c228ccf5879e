"""MSBP: what one step does not propagate is remembered and added to the next step's gradient."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from sparsetrain import numerics
from sparsetrain.backward.decay import check_decay, decay_factor
from sparsetrain.backward.rule import Selection, check_groups, everything
from sparsetrain.backward.top_k import keep_columns, kept_per_row, row_columns, union_width

MEMORIES = ("mean", "slot")


def zeros_memory(shape: tuple[int, ...]) -> jax.Array:
    """An empty memory. The adapters widen it to float64 beside a float64 kernel."""
    return jnp.zeros(shape, jnp.float32)


def add_share(
    cotangent: jax.Array, memory: jax.Array, rows: int | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gives every row its share of the stored total.

    Args:
      cotangent: dh, [R, O].
      memory: M, [O].
      rows: rows of the whole step; None means R.

    Returns:
      u = dh + M / rows [R, O], dh, and M / rows [1, O], in the memory's dtype.
    """
    received = cotangent.astype(memory.dtype)
    share = memory[None] / (cotangent.shape[0] if rows is None else rows)
    return received + share, received, share


@dataclasses.dataclass(frozen=True)
class MemorizedTopK:
    """See `memorized_top_k`."""

    density: float
    decay: float | str
    memory: str = "mean"
    groups: int = 1
    padded: bool = False
    shares_columns: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        numerics.check_density(self.density)
        check_decay(self.decay)
        if self.memory not in MEMORIES:
            raise ValueError(f"memory={self.memory!r}: choose one of {MEMORIES}")

    def at(self, path: str) -> "MemorizedTopK":
        del path
        return self

    def width(self, outputs: int, rows: int) -> int | None:
        return union_width(outputs, rows * kept_per_row(outputs, self.density, self.groups))

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> jax.Array:
        check_groups(math.prod(output_shape), self.groups)
        if self.memory == "mean":
            return zeros_memory(output_shape)
        if rows is None:
            raise ValueError(
                'rows=None: memory="slot" holds one row for every row of the batch; say how many'
            )
        return zeros_memory((rows, *output_shape))

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        count, outputs = cotangent.shape
        if memory is None:
            raise ValueError("memory=None: this rule needs the memory that its init made")
        if kept_per_row(outputs, self.density, self.groups) == outputs:
            # Nothing can be dropped, so the memory is empty and stays so.
            return everything(cotangent, memory)
        if self.memory == "slot":
            if memory.shape[0] != count or rows not in (None, count):
                raise ValueError(
                    f'memory="slot" was made for {memory.shape[0]} rows a step and met a call with {count}: '
                    'keep the batch size (drop the partial last batch), or use memory="mean"'
                )
            received = cotangent.astype(memory.dtype)
            u, share, carried = received + memory, memory, memory
        else:
            u, received, share = add_share(cotangent, memory, rows)
            carried = count * share[0]
        if self.padded:
            live = jnp.any(received != 0, axis=1, keepdims=True)
            u, share = jnp.where(live, u, 0), jnp.where(live, share, 0)
            carried = jnp.sum(share, axis=0) if self.memory == "mean" else share
        columns = row_columns(u, self.density, self.groups)
        selected, remainder = keep_columns(u, columns)
        if self.memory == "mean":
            remainder = jnp.sum(remainder, axis=0)
        decay = decay_factor(self.decay, received, share)
        increment = numerics.keep_if_finite(decay * remainder - carried, jnp.sum(received, axis=0))
        return selected.astype(cotangent.dtype)._replace(increment=increment)


def memorized_top_k(
    density: float,
    decay: float | str,
    memory: str = "mean",
    *,
    groups: int = 1,
    padded: bool = False,
) -> MemorizedTopK:
    """Memorized sparse backpropagation: the dropped gradient enters the next step.

        u_i = dh_i + M / rows                 (memory="mean")       u_i = dh_i + m_i            (memory="slot")
        g_i = S_k(u_i),    dx = g W^T,    dW = x^T g
        M  += decay * sum_i (u_i - g_i) - (R / rows) * M            m_i <- decay * (u_i - g_i)

    Args:
      density: fraction of a row's outputs that is kept, 0 < density <= 1.
      decay: the paper's memory ratio gamma, 0 <= decay < 1; 0 is SBP. "adaptive" lets the ratio
        follow the sizes of gradient and memory (`sparsetrain.backward.decay`).
      memory: "mean" keeps one vector of the layer's output shape (the stored total M, whatever the
        batch size); "slot" keeps one row for every row of the batch, and refuses another batch
        size.
      groups: equal groups of outputs that each keep their own k, for fused gates (4 for an LSTM's).
      padded: whether rows without any gradient are padding, such as words behind the end of a sentence whose loss
        is masked. They take nothing of the memory, which keeps their share: u_i = 0, and R counts the
        other rows. Else what other rows are owed leaves through them, multiplied by inputs that mean
        nothing.

    Returns:
      A rule whose memory is float32 [output shape], or [rows, output shape] for "slot".

    Raises:
      ValueError: density, decay or memory out of range; at `init`, groups that do not divide the
        outputs, or a slot memory without a number of rows; at `select`, a slot memory that meets
        another batch size.

    Differs from the paper:
      1. The paper is written for one example. For a batch, "mean" is our reading: every row
         receives the same share.
      2. The memory is the total M = rows * m of the paper's m, so that it does not depend on how a
         step's rows are split over calls.
      3. A call with a non-finite cotangent propagates it as plain backpropagation does, but leaves
         the memory as it was.
      4. `padded` is ours; the paper, which takes examples one by one, has no padding.
      5. Selected entries are rounded to the cotangent's dtype; in bf16 that rounding is not
         remembered.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), equations 19 to
    22, algorithm 2.

    Example:
      >>> import jax.numpy as jnp
      >>> rule = memorized_top_k(density=0.34, decay=0.5)
      >>> chosen = rule.select(jnp.array([[1.0, -2.0, 0.5]]), rule.init((3,)))
      >>> chosen.values.tolist(), chosen.increment.tolist()
      ([[0.0, -2.0, 0.0]], [0.5, 0.0, 0.25])
    """
    return MemorizedTopK(density, decay, memory, groups, padded)
