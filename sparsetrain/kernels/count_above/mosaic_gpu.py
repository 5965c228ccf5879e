"""On a GPU from Hopper on: as many thread blocks as run at once, each counting along a part of the array."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsetrain import varying
from sparsetrain.kernels.count_above import reference
from sparsetrain.kernels.pattern import magnitude_patterns

# A thread holds a count for each threshold and each entry of a vector: wider ones would leave room for
# fewer thread blocks, and with them for fewer loads that are under way at the same time.
VECTOR = 2  # entries that a thread loads at once
ROW = 128 * VECTOR  # entries that the threads of a block load together
ROWS = 8  # loads of a thread that are under way at the same time
CHUNK = ROW * ROWS
MOST = 6 * 132  # thread blocks: so many run at the same time on an H200
SLOTS = 16  # counts of a thread block, one of them unused: 64 bytes


def count_above(values: jax.Array, thresholds: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      values: [N] float32, bfloat16, float16 or int32 patterns.
      thresholds: [T] int32 patterns, T <= 15.
      **options: of `plgpu.kernel`, such as `interpret`.
    """
    chunks = values.shape[0] // CHUNK
    if not chunks:
        return reference.count_above(values, thresholds)
    blocks, number = min(chunks, MOST), thresholds.shape[0]
    layout = plgpu.Layout.WG_STRIDED((ROW,), vec_size=VECTOR)

    def laid_out(x: jax.Array) -> jax.Array:
        # There are no threads in the interpreter, and that of JAX 0.10 does not know the cast.
        return x if options.get("interpret") else plgpu.layout_cast(x, layout)

    def body(values_ref: Any, thresholds_ref: Any, counts_ref: Any) -> None:
        block = lax.axis_index("block")
        probes = [thresholds_ref[t] for t in range(number)]

        def add(turn: jax.Array, counts: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            begin = (block + turn * blocks) * CHUNK
            loaded = [laid_out(values_ref[pl.ds(begin + row * ROW, ROW)]) for row in range(ROWS)]
            for row in loaded:
                patterns = magnitude_patterns(row)
                counts = tuple(
                    count + (patterns >= probe).astype(jnp.int32)
                    for count, probe in zip(counts, probes, strict=True)
                )
            return counts

        # Each thread counts for itself; threads are added up once, at the end.
        turns = (chunks - block + blocks - 1) // blocks
        none = tuple(laid_out(jnp.zeros((ROW,), jnp.int32)) for _ in range(number))
        for t, count in enumerate(lax.fori_loop(jnp.int32(0), turns, add, none)):
            counts_ref[block, t] = jnp.sum(count)

    counts = plgpu.kernel(
        body,
        out_type=varying.shaped((blocks, SLOTS), jnp.int32, values, thresholds),
        grid=(blocks,),
        grid_names=("block",),
        **options,
    )(values, thresholds)
    # `plgpu.kernel` returns what is the same on all devices, whatever type it was asked for.
    counts = varying.over(varying.axes_of(values, thresholds), counts)
    whole = jnp.sum(counts[:, :number], axis=0, dtype=jnp.int32)
    if chunks * CHUNK == values.shape[0]:
        return whole
    return whole + reference.count_above(values[chunks * CHUNK :], thresholds)
