"""Block-local top-k: every block of a tensor sends its own largest entries; what a kernel does in one pass."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import selection, varying
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import LeafCompressor, LeafwiseState, accumulated
from sparsetrain.compress.density import capacity
from sparsetrain.kernels.block_top_k_feedback import (
    BLOCKS,
    block_top_k_feedback,
    has_kernel,
    keep_of_last,
)
from sparsetrain.payload import Dense, Payload, Sparse, golomb_parameter


@dataclasses.dataclass(frozen=True)
class BlockTopK(LeafCompressor):
    """See `top_k`, `block`."""

    density: float
    block: int

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step, key
        flat = u.reshape(-1)
        if flat.size <= self.block:
            slots = capacity(self.density, flat.size)
            kept = entries.largest(flat, slots, slots)
            return _sparse(kept, slots, u.shape), state
        whole = flat.size // self.block
        columns = selection.top_k_columns(flat[: whole * self.block].reshape(whole, -1), self._each)
        starts = self.block * jnp.arange(whole, dtype=jnp.int32)
        chosen = [(columns + starts[:, None]).reshape(-1)]
        if rest := flat.size - whole * self.block:
            last = flat[None, whole * self.block :]
            few = selection.top_k_columns(last, keep_of_last(self._each, rest, self.block))
            chosen.append(few[0] + whole * self.block)
        indices = jnp.concatenate(chosen)
        kept = entries.rising(flat, indices, jnp.ones(indices.shape, bool))
        return _sparse(kept, indices.size, u.shape), state

    @property
    def _each(self) -> int:
        """k of a whole block."""
        return capacity(self.density, self.block)

    def has_one_pass(self) -> bool:
        """Whether this program will run where a kernel selects and remembers in one pass."""
        return self.block in BLOCKS and has_kernel()

    def one_pass(
        self, gradients: Any, residual: Any, state: LeafwiseState, speaks: jax.Array
    ) -> tuple[Any, Any, LeafwiseState]:
        """Compensates, selects and remembers: g and r are read once, and u is never stored.

            u = r + g,    payload of C(u),    r' = u - C(u)

        Args:
          gradients: tree.
          residual: tree like it, at least float32.
          state: of `compress`.
          speaks: bool scalar; where it is false the residual stays, and nothing is sent.

        Returns:
          (payloads, residual, state). Entries that are zero take no slot, unlike in `compress`.
        """
        leaves, structure = jax.tree.flatten(accumulated(gradients))
        done = [
            self._one_pass_of_leaf(g, r, speaks)
            for g, r in zip(leaves, jax.tree.leaves(residual), strict=True)
        ]
        payloads, rests = (
            jax.tree.unflatten(structure, list(each)) for each in zip(*done, strict=True)
        )
        return payloads, rests, LeafwiseState(state.step + 1, state.leaves)

    def _one_pass_of_leaf(
        self, g: jax.Array, r: jax.Array, speaks: jax.Array
    ) -> tuple[Payload, jax.Array]:
        if g.size <= self.block or g.dtype != jnp.float32:
            u = jnp.where(speaks, r + g, jnp.zeros_like(r))
            payload = self.compress_leaf(u, (), speaks, None)[0] if u.size else Dense(u)
            return payload.silenced(speaks), jnp.where(speaks, u - payload.to_dense(), r)

        def split(g: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
            return block_top_k_feedback(g, r, self._each, block=self.block)

        # A branch and no select: that would read the old residual and the new one.
        kept, rest = varying.cond(
            speaks, split, lambda g, r: (jnp.zeros_like(g), r), g.reshape(-1), r.reshape(-1)
        )
        whole, last = divmod(g.size, self.block)
        slots = whole * self._each + (keep_of_last(self._each, last, self.block) if last else 0)
        payload = _sparse(entries.where(kept, kept != 0, slots), slots, g.shape)
        return payload.silenced(speaks), rest.reshape(g.shape)


def _sparse(kept: entries.Entries, slots: int, shape: tuple[int, ...]) -> Sparse:
    b = golomb_parameter(slots / math.prod(shape))
    return Sparse(kept.indices, kept.used, shape, b, values=kept.values)
