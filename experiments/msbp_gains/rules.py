"""Controls: backward rules that have one property of SBP or MSBP and lack another.

    rule        keeps of the original                         lacks
    noise       size and place of every entry of SBP's error  its direction: the estimate is unbiased
    shuffled    MSBP's memory, its size and its dynamics      the unit that an entry belongs to
    flipped     MSBP's memory, place and size of each entry   the direction
    gated       MSBP's memory                                 what reaches rows whose unit is shut
    random      MSBP's memory                                 the choice of the largest entries

A unit is shut for a row where its output gradient is exactly zero: ReLU or dropout let nothing through. MSBP gives
its memory to such rows too.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import backward, numerics, selection
from sparsetrain.backward.rule import BackwardRule, Selection, everything

CONTROLS = ("noise", "shuffled", "flipped", "gated", "random")


@dataclasses.dataclass(frozen=True)
class Control:
    """A rule of the table above.

    With u_i = dh_i + t(M) / R, t the change that the name says, and S_k top-k or random-k of every row:

        g_i = S_k(u_i),    M <- decay * sum_i (u_i - g_i)                        all but noise
        g_i = dh_i + s_i (dh_i - S_k(dh_i)),  s_i random signs                   noise

    Attributes:
      kind: of `CONTROLS`.
      density: fraction of a row's outputs that is kept.
      decay: of the memory; without effect for noise, which has none.

    Raises:
      ValueError: an unknown kind, or a density outside (0, 1].
    """

    kind: str
    density: float
    decay: float = 0.0
    shares_columns: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        numerics.check_density(self.density)
        if self.kind not in CONTROLS:
            raise ValueError(f"kind={self.kind!r}: choose one of {CONTROLS}")

    def at(self, path: str) -> "Control":
        del path
        return self

    def width(self, outputs: int, rows: int) -> None:
        del outputs, rows

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> jax.Array | None:
        del rows
        return None if self.kind == "noise" else jnp.zeros(output_shape, jnp.float32)

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        if rows not in (None, cotangent.shape[0]):
            raise ValueError(f"rows={rows}: these controls take all rows of a step in one call")
        k = selection.count(cotangent.shape[1], self.density)
        if k == cotangent.shape[1]:
            return everything(cotangent, memory)
        key = key_of(cotangent)
        if memory is None:
            dropped = jnp.where(selection.top_k_mask(cotangent, k), 0, cotangent)
            signs = jax.random.rademacher(key, cotangent.shape, cotangent.dtype)
            return Selection(cotangent + signs * dropped, jnp.ones(cotangent.shape, bool), None)
        share = jnp.broadcast_to(memory[None] / cotangent.shape[0], cotangent.shape)
        if self.kind == "shuffled":
            share = share[:, jax.random.permutation(key, cotangent.shape[1])]
        elif self.kind == "flipped":
            share = share * jax.random.rademacher(key, (1, cotangent.shape[1]), share.dtype)
        elif self.kind == "gated":
            share = jnp.where(cotangent == 0, 0, share)
        u = cotangent + share
        ranked = jax.random.uniform(key, u.shape) if self.kind == "random" else u
        mask = selection.top_k_mask(ranked, k)
        remainder = jnp.sum(jnp.where(mask, 0, u), axis=0)
        return Selection(jnp.where(mask, u, 0), mask, self.decay * remainder - memory)


def key_of(cotangent: jax.Array) -> jax.Array:
    """A key from the bits of a gradient: other draws for every step, layer and seed without a counter.

    Example:
      >>> first, second = (key_of(jnp.full((2, 3), x)) for x in (0.1, 0.2))
      >>> bool((jax.random.key_data(first) == jax.random.key_data(second)).all())
      False
    """
    bits = lax.bitcast_convert_type(jnp.sum(cotangent.astype(jnp.float32)), jnp.uint32)
    return jax.random.fold_in(jax.random.key(0), bits)


def rule(method: str, density: float, decay: float) -> BackwardRule | None:
    """The rule of a method: ours for dense (None), SBP and MSBP, else a control.

    Example:
      >>> rule("dense", 1.0, 0.0), rule("msbp", 0.5, 0.8).decay, rule("gated", 0.5, 0.8).kind
      (None, 0.8, 'gated')
    """
    if method == "dense":
        return None
    if method == "sbp":
        return backward.top_k(density)
    if method == "msbp":
        return backward.memorized_top_k(density, decay)
    return Control(method, density, decay)
