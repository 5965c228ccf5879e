"""On a TPU: counts stay vectors in VMEM until the last block, so that no sum crosses lanes before."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sparsetrain import varying
from sparsetrain.kernels.count_above import reference
from sparsetrain.kernels.pattern import magnitude_patterns

TILE = (8, 128)  # sublanes and lanes of a register
CHUNK = 1 << 15  # entries of a program
SMALL = 1 << 10  # fewer are not worth a kernel


def count_above(values: jax.Array, thresholds: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      values: [N] float32, bfloat16 or int32 patterns.
      thresholds: [T] int32 patterns, T <= 15.
      **options: of `pallas_call`, such as `interpret`.
    """
    if values.shape[0] < SMALL:
        return reference.count_above(values, thresholds)
    shape = (thresholds.shape[0], *TILE)
    axes = varying.axes_of(values, thresholds)
    # Flat as it lies in memory, the last block cut short: slicing it off would copy all others.
    run = pl.pallas_call(
        functools.partial(_body, size=values.shape[0]),
        grid=(pl.cdiv(values.shape[0], CHUNK),),
        in_specs=[
            pl.BlockSpec(memory_space=pltpu.SMEM),
            pl.BlockSpec((CHUNK,), lambda i: (i,)),
        ],
        out_specs=pl.BlockSpec(shape, lambda i: (0, 0, 0)),
        out_shape=varying.shaped(shape, jnp.int32, values, thresholds),
        **options,
    )
    # Under vmap row by row: blocks of a matrix's row would not lie as a TPU has them.
    counts = custom_batching.sequential_vmap(run)(*varying.over(axes, (thresholds, values)))
    return jnp.sum(counts, axis=(1, 2), dtype=jnp.int32)


def _body(thresholds_ref: Any, values_ref: Any, counts_ref: Any, *, size: int) -> None:
    shape = (CHUNK // (TILE[0] * TILE[1]), *TILE)
    patterns = magnitude_patterns(values_ref[...]).reshape(shape)
    begin = pl.program_id(0) * CHUNK
    tile, sublane, lane = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(3))
    place = begin + (tile * TILE[0] + sublane) * TILE[1] + lane
    patterns = jnp.where(place < size, patterns, jnp.int32(-1))

    @pl.when(pl.program_id(0) == 0)
    def _() -> None:
        counts_ref[...] = jnp.zeros_like(counts_ref)

    for t in range(counts_ref.shape[0]):
        above = (patterns >= thresholds_ref[t]).astype(jnp.int32)
        counts_ref[t] += jnp.sum(above, axis=0)
