"""The definition, and what runs where no kernel does."""

import jax
import jax.numpy as jnp
from jax import lax


def block_top_k_feedback(
    g: jax.Array, m: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """Of whole blocks; see the package.

    Args:
      g: [N], N a multiple of `block`.
      m: [N].
      k: kept of each block.
      block: B.
    """
    u = m + g.astype(m.dtype)
    rows = u.reshape(-1, block)
    columns = lax.top_k(jnp.abs(rows), k)[1]  # ties to the lower position, NaN first
    row = jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None]
    found = jnp.take_along_axis(rows, columns, axis=1)
    sent, rest = parted(found, g.dtype)
    kept = jnp.zeros_like(rows, g.dtype)
    kept = kept.at[row, columns].set(sent, unique_indices=True)
    rows = rows.at[row, columns].set(rest, unique_indices=True)
    return kept.reshape(-1), rows.reshape(-1)


def parted(u: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """An entry that is kept: what is sent of it, and what a narrower type has no bits for.

    Args:
      u: float.
      dtype: of what is sent.

    Returns:
      (sent, rest), sent + rest = u; of what is not finite nothing stays.
    """
    sent = u.astype(dtype)
    wide = sent.astype(u.dtype)
    # Not `isfinite`, which Mosaic GPU does not know; of NaN the comparison is false.
    return sent, jnp.where(jnp.abs(wide) < jnp.inf, u - wide, jnp.zeros_like(u))
