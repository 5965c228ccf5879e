"""K1: the k largest entries of every block of gradient + memory, and the memory of the rest, in one pass.

u = m + g,    kept = u on the k largest |u| of each block,    m' = u - kept
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels import dispatch
from sparsetrain.kernels.block_top_k_feedback import reference

BLOCKS = (1024, 2048, 4096)
_KERNELS: tuple[str, ...] = (dispatch.MOSAIC_GPU, dispatch.TPU)


def block_top_k_feedback(
    g: jax.Array,
    m: jax.Array,
    k: int,
    *,
    block: int = 4096,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Block-local top-k with error feedback: exactly k entries of every block.

        u = m + g,    kept = u on the k largest |u| of each block, else 0,    m' = u - kept

    Args:
      g: [N] float32 or bfloat16, the gradient.
      m: [N] float32, the memory; its buffer is given away.
      k: entries kept of a block, 1 <= k <= block. Of a last block of r < block entries
        max(1, round(k r / block)).
      block: B, one of 1,024, 2,048 and 4,096.
      implementation: "xla", "mosaic_gpu", "tpu"; None for the kernel where it can run, see
        `dispatch.choose`.

    Returns:
      (kept, m'): [N] in the dtype of g, [N] float32. kept + m' = u: what bfloat16 rounds off stays in
      the memory. Ties go to the lower position; NaN counts as largest, and of an entry that is kept and not
      finite nothing stays.

    Raises:
      TypeError: other dtypes.
      ValueError: shapes that differ or are no vectors, k or block out of range, an implementation that
        cannot run here.

    Differs from top-k over the whole array: a block cannot send more than k, however large its
    entries. ||u - kept||^2 <= (1 - k / B) ||u||^2 holds in every block, so error feedback converges as
    with top-k.

    Example:
      >>> g, m = jnp.arange(2048.0), jnp.zeros(2048)
      >>> kept, m = block_top_k_feedback(g, m, 2, block=1024)
      >>> [int(i) for i in jnp.flatnonzero(kept)], float(m[0] + m[1023])
      ([1022, 1023, 2046, 2047], 0.0)
    """
    _check(g, m, k, block)
    rest, kept = _split(g, m, k, block, dispatch.choose(implementation, _KERNELS))
    return kept, rest


# The memory first: a donated buffer goes to the first result that it fits.
@functools.partial(jax.jit, static_argnames=("k", "block", "chosen"), donate_argnames="m")
def _split(
    g: jax.Array, m: jax.Array, k: int, block: int, chosen: str
) -> tuple[jax.Array, jax.Array]:
    """(new memory, kept)."""
    kept, rest = _kept_and_rest(g, m, k, block, chosen)
    return rest, kept


def _kept_and_rest(
    g: jax.Array, m: jax.Array, k: int, block: int, chosen: str
) -> tuple[jax.Array, jax.Array]:
    """All blocks by the chosen implementation; a shorter last one beside it, where it takes none."""
    whole = g.size // block * block
    if not whole:
        return _tail(g, m, k, block)
    run = dispatch.module(__name__, chosen).block_top_k_feedback
    if chosen == dispatch.TPU:
        kept, rest = run(g, m, k, block, keep_of_last(k, max(1, g.size - whole), block))
        return kept, rest
    if whole == g.size:
        kept, rest = run(g, m, k, block)
        return kept, rest
    last = _tail(g[whole:], m[whole:], k, block)
    if chosen == dispatch.XLA:
        kept, rest = run(g[:whole], m[:whole], k, block)
        return jnp.concatenate([kept, last[0]]), jnp.concatenate([rest, last[1]])
    # A kernel leaves the end as it is, so that nothing but the end is cut out and put in. The end comes
    # first, for afterwards the old memory is gone.
    last, m = lax.optimization_barrier((last, m))
    kept, rest = run(g, m, k, block)
    return kept.at[whole:].set(last[0]), rest.at[whole:].set(last[1])


def has_kernel() -> bool:
    """Whether a kernel runs where this program will.

    Example:
      >>> has_kernel()                                                        # on a CPU
      False
    """
    return dispatch.choose(None, _KERNELS) != dispatch.XLA


def keep_of_last(k: int, entries: int, block: int) -> int:
    """How many are kept of a last block of fewer entries.

        max(1, round(k r / B))

    Args:
      k: kept of a whole block.
      entries: r, 1 <= r <= B.
      block: B.

    Example:
      >>> keep_of_last(41, 1000, 4096)
      10
    """
    return max(1, round(k * entries / block))


def _tail(g: jax.Array, m: jax.Array, k: int, block: int) -> tuple[jax.Array, jax.Array]:
    """The last block, which is shorter than the others."""
    if not g.size:
        return g, m
    return reference.block_top_k_feedback(g, m, keep_of_last(k, g.size, block), g.size)


def _check(g: jax.Array, m: jax.Array, k: int, block: int) -> None:
    if g.ndim != 1 or g.shape != m.shape:
        raise ValueError(f"g {g.shape} and m {m.shape}: give two vectors of one length")
    if g.dtype not in (jnp.float32, jnp.bfloat16) or m.dtype != jnp.float32:
        raise TypeError(
            f"g of {g.dtype}, m of {m.dtype}: give g in float32 or bfloat16, and m in float32"
        )
    if block not in BLOCKS:
        raise ValueError(f"block={block}: give one of {', '.join(map(str, BLOCKS))}")
    if not 1 <= k <= block:
        raise ValueError(f"k={k}: must lie in 1..{block}, the length of a block")
