"""On a TPU: one pass, many blocks a program, each a row of lanes of its own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jax.experimental import pallas as pl

from sparsetrain import varying
from sparsetrain.kernels.block_top_k_feedback.exact_block import split
from sparsetrain.kernels.block_top_k_feedback.reference import parted

LANES = 128
AT_ONCE = 1 << 16  # entries of a program: enough for a transfer to be worth its start


def block_top_k_feedback(
    g: jax.Array, m: jax.Array, k: int, block: int, keep_of_last: int, **options: Any
) -> tuple[jax.Array, jax.Array]:
    """As the reference; m's buffer becomes that of the new memory.

    Args:
      g: [N], N >= `block`. The last block may be shorter: nothing is cut off here, which would copy the rest.
      m: [N] float32.
      k: kept of each block.
      block: B, a multiple of 1,024.
      keep_of_last: kept of a last block that is shorter.
      **options: of `pallas_call`, such as `interpret`.
    """
    # Flat as they lie in memory; rows and lanes are made of them inside, where it costs nothing.
    spec = pl.BlockSpec((AT_ONCE,), lambda i: (i,))
    body = functools.partial(_body, size=g.size, block=block, k=k, keep_of_last=keep_of_last)
    axes = varying.axes_of(g, m)
    run = pl.pallas_call(
        body,
        grid=(pl.cdiv(g.size, AT_ONCE),),
        in_specs=[spec, spec],
        out_specs=[spec, spec],
        out_shape=[varying.shaped(x.shape, x.dtype, g, m) for x in (g, m)],
        # The interpreter cannot give away an array of which the last block is a part.
        input_output_aliases={} if options.get("interpret") else {1: 1},
        **options,
    )
    # Under vmap row by row: blocks of a matrix's row would not lie as a TPU has them.
    kept, rest = custom_batching.sequential_vmap(run)(*varying.over(axes, (g, m)))
    return kept, rest


def _body(
    g_ref: Any,
    m_ref: Any,
    kept_ref: Any,
    rest_ref: Any,
    *,
    size: int,
    block: int,
    k: int,
    keep_of_last: int,
) -> None:
    shape = (AT_ONCE // block, block // LANES, LANES)
    # Reshaped while 32 bits wide: rows of narrower entries are interleaved.
    u = (m_ref[...] + g_ref[...].astype(m_ref.dtype)).reshape(shape)
    number, row, lane = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(3))
    positions = LANES * row + lane
    begin = pl.program_id(0) * AT_ONCE
    last = size // block * block  # where the last block begins, if it is shorter
    exists = begin + number * block + positions < size
    is_last = begin + number[:, :1, :1] * block >= last
    keep = jnp.where(is_last, jnp.int32(keep_of_last), jnp.int32(k))
    is_kept = split(u, positions, keep, exists=exists, axes=(1, 2))
    sent, rest = parted(u, kept_ref.dtype)
    kept = jnp.where(is_kept, sent.astype(u.dtype), jnp.zeros_like(u)).reshape(AT_ONCE)
    kept_ref[...] = kept.astype(kept_ref.dtype)
    rest_ref[...] = jnp.where(is_kept, rest, u).reshape(AT_ONCE)
