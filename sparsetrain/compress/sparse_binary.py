"""Sparse Binary Compression (SBC): positions of one sign and the one value that they share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain.compress import entries
from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.compress.density import Density, capacity, check, count_at
from sparsetrain.compress.local_steps import LocalSteps, local_steps
from sparsetrain.compress.top_k import code_parameter
from sparsetrain.payload import Payload, SparseBinary

VARIANTS = ("clamped", "literal")
# Local steps and density of the paper's three settings.
PRESETS = {1: (1, 0.001), 2: (10, 0.01), 3: (100, 0.01)}


@dataclasses.dataclass(frozen=True)
class SparseBinaryCompressor(LeafCompressor):
    """See `sparse_binary`."""

    density: Density
    variant: str = "clamped"

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del key
        flat = u.reshape(-1)
        slots = capacity(self.density, flat.size)
        count = count_at(self.density, flat.size, step)
        choose = _clamped if self.variant == "clamped" else _literal
        kept, mean = choose(flat, slots, count)
        b = code_parameter(self.density, slots, flat.size)
        return SparseBinary(kept.indices, kept.used, u.shape, b, mean=mean), state


def _clamped(
    flat: jax.Array, slots: int, count: int | jax.Array
) -> tuple[entries.Entries, jax.Array]:
    """The side with the larger sum, without entries of the wrong sign."""
    sides = [jnp.maximum(flat, 0), jnp.maximum(-flat, 0)]
    plus, minus = (entries.largest(side, slots, count) for side in sides)
    sum_plus, sum_minus = jnp.sum(plus.values), jnp.sum(minus.values)
    is_plus = sum_plus >= sum_minus
    chosen = jax.tree.map(lambda a, b: jnp.where(is_plus, a, b), plus, minus)
    # Zeros were only selected for want of entries of this sign.
    kept = entries.rising(flat, chosen.indices, chosen.values > 0)
    magnitude = jnp.where(is_plus, sum_plus, sum_minus) / jnp.maximum(kept.used, 1)
    return kept, jnp.where(is_plus, magnitude, -magnitude)


def _literal(
    flat: jax.Array, slots: int, count: int | jax.Array
) -> tuple[entries.Entries, jax.Array]:
    """The side with the larger mean, as the paper has it: entries of the wrong sign included."""
    is_used = jnp.arange(slots) < count

    def side(signed: jax.Array) -> tuple[jax.Array, jax.Array]:
        # By value and not by magnitude; top_k breaks ties by the lower index.
        values, indices = jax.lax.top_k(signed, slots)
        return indices, jnp.sum(jnp.where(is_used, values, 0)) / count

    (plus, mean_plus), (minus, mean_minus) = side(flat), side(-flat)
    is_plus = mean_plus >= mean_minus
    kept = entries.rising(flat, jnp.where(is_plus, plus, minus), is_used)
    return kept, jnp.where(is_plus, mean_plus, -mean_minus)


def sparse_binary(density: Density, *, variant: str = "clamped") -> SparseBinaryCompressor:
    """The k largest entries of one sign, all sent as their mean: no value bits at all.

        s+ = sum of the k largest max(u, 0),    s- = sum of the k largest max(-u, 0)
        C(u) = +-s / c at the c <= k positions of the larger side, else 0

    Args:
      density: fraction of a tensor's entries that may be sent, 0 < density <= 1; or `warm_up(...)`,
        `scheduled(...)`.
      variant: "clamped" (ours) never sends a position of the wrong sign; "literal" is the paper's
        rule, which compares means and may.

    Returns:
      A compressor for use with error feedback: ||u - C(u)||^2 = ||u||^2 - c mu^2.

    Raises:
      ValueError: density out of range or a plain function; an unknown variant.

    Differs from the paper:
      1. Sides are compared by clamped sums, which equals its comparison of means as long as both
         sides have k entries of their sign, and never does worse otherwise.
      2. Ties at the k-th entry: exactly k are sent, the lower positions first.

    Reference: Sattler et al., Sparse Binary Compression (arXiv 1805.08768).

    Example:
      >>> u = jnp.array([0.5, -2.0, 0.1, 3.0, -1.5, 0.0, 1.0, -0.2])
      >>> compressor = sparse_binary(density=0.25)
      >>> compressor.compress(u, compressor.init(u))[0].to_dense().tolist()
      [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0]
    """
    check(density)
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r}: choose one of {VARIANTS}")
    return SparseBinaryCompressor(density, variant)


def sbc(preset: int, inner: optax.GradientTransformation, **options: Any) -> LocalSteps:
    """SBC(1), SBC(2) or SBC(3): local steps and density as the paper pairs them.

        SBC(1): n = 1,   density .001   (x2784 in theory)
        SBC(2): n = 10,  density .01    (x3947)
        SBC(3): n = 100, density .01    (x39468)

    Args:
      preset: 1, 2 or 3.
      inner: the local optimizer.
      **options: as for `local_steps`.

    Returns:
      `local_steps(inner, n, sparse_binary(density), **options)`.

    Raises:
      ValueError: another number.

    Differs from the paper:
      1. The pairs (n, density) are not in the text we have (unverified).
      2. Momentum is masked only if `momentum_masking="first"` is given.

    Example:
      >>> import optax
      >>> tx = sbc(3, optax.adam(1e-3))
    """
    if preset not in PRESETS:
        raise ValueError(f"preset={preset}: choose 1, 2 or 3")
    every, density = PRESETS[preset]
    return local_steps(inner, every, sparse_binary(density), **options)
