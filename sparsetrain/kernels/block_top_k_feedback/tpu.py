"""On a TPU: one pass over lanes of 128, a block a program."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from sparsetrain import varying
from sparsetrain.kernels.block_top_k_feedback.exact_block import split
from sparsetrain.kernels.block_top_k_feedback.reference import parted

LANES = 128


def block_top_k_feedback(
    g: jax.Array, m: jax.Array, k: int, block: int, **options: Any
) -> tuple[jax.Array, jax.Array]:
    """As the reference; m's buffer becomes that of the new memory.

    Args:
      g: [N], N a multiple of `block`.
      m: [N] float32.
      k: kept of each block.
      block: B, a multiple of 1,024.
      **options: of `pallas_call`, such as `interpret`.
    """
    rows = block // LANES
    spec = pl.BlockSpec((rows, LANES), lambda i: (i, 0))
    shape = (g.size // LANES, LANES)
    kept, rest = pl.pallas_call(
        functools.partial(_body, k=k),
        grid=(g.size // block,),
        in_specs=[spec, spec],
        out_specs=[spec, spec],
        out_shape=[varying.shaped(shape, x.dtype, g, m) for x in (g, m)],
        input_output_aliases={1: 1},
        **options,
    )(g.reshape(shape), m.reshape(shape))
    return kept.reshape(-1), rest.reshape(-1)


def _body(g_ref: Any, m_ref: Any, kept_ref: Any, rest_ref: Any, *, k: int) -> None:
    u = m_ref[...] + g_ref[...].astype(m_ref.dtype)
    positions = LANES * lax.broadcasted_iota(jnp.int32, u.shape, 0)
    positions = positions + lax.broadcasted_iota(jnp.int32, u.shape, 1)
    is_kept = split(u, positions, k)
    sent, rest = parted(u, kept_ref.dtype)
    kept_ref[...] = jnp.where(is_kept, sent, jnp.zeros_like(sent))
    rest_ref[...] = jnp.where(is_kept, rest, u)
