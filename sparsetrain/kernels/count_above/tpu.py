"""On a TPU: counts stay vectors in VMEM until the last block, so that no sum crosses lanes before."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sparsetrain import varying
from sparsetrain.kernels.count_above import reference
from sparsetrain.kernels.pattern import magnitude_patterns

LANES, SUBLANES = 128, 8
ROWS = 256  # rows of lanes in a block
CHUNK = ROWS * LANES


def count_above(values: jax.Array, thresholds: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      values: [N] float32, bfloat16, float16 or int32 patterns.
      thresholds: [T] int32 patterns, T <= 15.
      **options: of `pallas_call`, such as `interpret`.
    """
    chunks = values.shape[0] // CHUNK
    if not chunks:
        return reference.count_above(values, thresholds)
    shape = (thresholds.shape[0], SUBLANES, LANES)
    axes = varying.axes_of(values, thresholds)
    whole, thresholds = varying.over(axes, (values[: chunks * CHUNK], thresholds))
    counts = pl.pallas_call(
        _body,
        grid=(chunks,),
        in_specs=[
            pl.BlockSpec(memory_space=pltpu.SMEM),
            pl.BlockSpec((ROWS, LANES), lambda i: (i, 0)),
        ],
        out_specs=pl.BlockSpec(shape, lambda i: (0, 0, 0)),
        out_shape=varying.shaped(shape, jnp.int32, values, thresholds),
        **options,
    )(thresholds, whole.reshape(-1, LANES))
    found = jnp.sum(counts, axis=(1, 2), dtype=jnp.int32)
    if chunks * CHUNK == values.shape[0]:
        return found
    return found + reference.count_above(values[chunks * CHUNK :], thresholds)


def _body(thresholds_ref: Any, values_ref: Any, counts_ref: Any) -> None:
    patterns = magnitude_patterns(values_ref[...])

    @pl.when(pl.program_id(0) == 0)
    def _() -> None:
        counts_ref[...] = jnp.zeros_like(counts_ref)

    for t in range(counts_ref.shape[0]):
        above = (patterns >= thresholds_ref[t]).astype(jnp.int32)
        counts_ref[t] += jnp.sum(above.reshape(-1, SUBLANES, LANES), axis=0)
