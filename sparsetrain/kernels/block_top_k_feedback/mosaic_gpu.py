"""On a GPU from Hopper on: one pass, a block of entries a thread block, by Mosaic GPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsetrain import varying
from sparsetrain.kernels.block_top_k_feedback.exact_block import split
from sparsetrain.kernels.block_top_k_feedback.reference import parted

VECTOR = 4  # entries that a thread loads at once: 16 bytes of float32
# As operands of `plgpu.kernel`; never inside `shard_map`, where their types do not say what varies.
TAKES_REFERENCES = jax.__version_info__ >= (0, 11)


def block_top_k_feedback(
    g: jax.Array, m: jax.Array, k: int, block: int, **options: Any
) -> tuple[jax.Array, jax.Array]:
    """As the reference.

    Args:
      g: [N], N >= `block`; what is behind the last whole block is neither read nor written.
      m: [N] float32.
      k: kept of each block.
      block: B, a multiple of 1,024.
      **options: of `plgpu.kernel`, such as `interpret`.
    """

    # Which thread holds which entries: the same for all arrays, whatever their width.
    layout = plgpu.Layout.WG_STRIDED((block,), vec_size=VECTOR)

    def laid_out(x: jax.Array) -> jax.Array:
        # There are no threads in the interpreter, and that of JAX 0.10 does not know the cast.
        return x if options.get("interpret") else plgpu.layout_cast(x, layout)

    def body(g_ref: Any, m_ref: Any, kept_ref: Any, rest_ref: Any = None) -> None:
        entries = pl.ds(lax.axis_index("block") * block, block)
        u = laid_out(m_ref[entries]) + laid_out(g_ref[entries]).astype(m.dtype)
        positions = laid_out(lax.broadcasted_iota(jnp.int32, (block,), 0))
        is_kept = split(u, positions, k)
        sent, rest = parted(u, g.dtype)
        kept_ref[entries] = jnp.where(is_kept, sent, jnp.zeros_like(sent))
        (m_ref if rest_ref is None else rest_ref)[entries] = jnp.where(is_kept, rest, u)

    grid: dict[str, Any] = {"grid": (g.size // block,), "grid_names": ("block",)}
    kept_type, rest_type = (varying.shaped(x.shape, x.dtype, g, m) for x in (g, m))
    axes = varying.axes_of(g, m)
    if not TAKES_REFERENCES or axes:
        kept, rest = plgpu.kernel(body, out_type=[kept_type, rest_type], **grid, **options)(g, m)
        # They come back as the same on all devices, whatever type was asked for.
        return varying.over(axes, (kept, rest))
    # A reference, so that the new memory is written where the old one was: a result of its own would
    # be copied into the buffer that was given away.
    memory = jax.new_ref(m)
    kept = plgpu.kernel(body, out_type=kept_type, **grid, **options)(g, memory)
    return kept, memory[...]
