"""Which blocks of the masked kernels are there: read off the masks, since a grown block begins with zeros."""

import re
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.masks.rule import Masks
from sparsetrain.masks.wrapper import MaskOwner, find


def live_blocks(
    tx: Any, state: Any, block: int = 128, *, kernels: str | None = None
) -> dict[str, jax.Array]:
    """The blocks that the next update needs: what a model of `block_sparse` multiplies.

        live_ij = 1 where any weight of block (i, j) may be other than zero, or its gradient is wanted

    That is one pass over the masks, a byte a weight; it may be part of every step, or be called where
    masks change, and at the very first update. Blocks are those of the masks, or the first update of a
    phase in which a partition grows (C-GaP's first, all of P-GaP's), and at the update before a change by a
    method that grows where the gradient is largest, all: so every method trains as with dense products.

    Args:
      tx: the wrapper of this package whose state `state` holds; not the chain around it.
      state: an optimizer's state with one mask state in it, before the update.
      block: neighbouring inputs, and outputs, of a block.
      kernels: expression of the '/'-joined paths to take; None for every masked matrix that is whole
        blocks. Others, and kernels of more than two axes such as a convolution's, stay masked and dense.

    Returns:
      Path -> bool [I / block, O / block].

    Raises:
      TypeError: `tx` is no wrapper of this package.
      ValueError: nothing to take, or a kernel named that is no matrix in whole blocks; a mask that is
        not made of whole blocks (where it can be seen: inside `jit` such a block is live, which is right and
        saves little); methods whose masked weights live on or have gradients (DPF, mask_gradients=False).

    Example:
      >>> import optax
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])}
      >>> tx = masks.static(optax.sgd(0.1), 0.5, scores=params, structure=masks.block(2, 2))
      >>> live_blocks(tx, tx.init(params), block=2)["kernel"].tolist()
      [[True, False]]
    """
    rule = _owner(tx).rule
    held = find(state)
    # In nnx they are variables.
    masks = {path: jnp.asarray(mask) for path, mask in held.masks.items()}
    step = jnp.asarray(held.step)
    chosen = _chosen(masks, block, kernels)
    for path in chosen:
        _check_whole(path, masks[path], block)
    if (widens := rule.widens(step)) is not None:
        wider = rule.used(masks, step)
        masks = {path: jnp.where(widens, wider[path], masks[path]) for path in chosen}
    found = {path: _grid(masks[path], block).any(axis=(1, 3)) for path in chosen}
    if rule.grows_by_gradient:
        reads = rule.is_due(step + 1)
        found = {path: live | reads for path, live in found.items()}
    return found


def _grid(mask: jax.Array, block: int) -> jax.Array:
    inputs, outputs = mask.shape
    return mask.reshape(inputs // block, block, outputs // block, block)


def _chosen(masks: Masks, block: int, kernels: str | None) -> list[str]:
    """Paths of the matrices to take."""
    if block < 1:
        raise ValueError(f"block={block}: must be at least 1")
    fit = [
        path
        for path, mask in masks.items()
        if mask.ndim == 2 and not any(size % block for size in mask.shape)
    ]
    wanted = fit if kernels is None else [path for path in masks if re.fullmatch(kernels, path)]
    unfit = [path for path in wanted if path not in fit]
    if not wanted or unfit:
        there_are = ", ".join(f"{path} {mask.shape}" for path, mask in masks.items())
        asked = f"kernels={kernels!r}, " if kernels is not None else ""
        problem = f"{', '.join(unfit)} cannot be taken" if unfit else "nothing to take"
        raise ValueError(
            f"{asked}block={block}: {problem}; masked are {there_are}, of which matrices in whole "
            "blocks can be"
        )
    return wanted


def _check_whole(path: str, mask: jax.Array, block: int) -> None:
    if isinstance(mask, jax.core.Tracer):
        return
    with jax.ensure_compile_time_eval():  # A constant may be looked at inside `jit` too.
        grid = _grid(mask, block)
        is_whole = bool(jnp.all(grid.any(axis=(1, 3)) == grid.all(axis=(1, 3))))
    if not is_whole:
        raise ValueError(
            f"block={block}: the mask of {path} is not made of whole blocks; make them so with "
            f"structure=masks.block({block}, {block}), or leave this kernel out by kernels="
        )


def _owner(tx: Any) -> MaskOwner:
    """The wrapper, if nothing reads what dead blocks do not have."""
    if not isinstance(tx, MaskOwner):
        raise TypeError(
            f"tx: {type(tx).__name__} is not what masks.grow_and_prune or another wrapper of masks "
            "returns; give the wrapper itself, not the chain around it"
        )
    if tx.rule.has_shadows:
        raise ValueError(
            "live_blocks: this method's masked weights live on and need their gradients; use dense products"
        )
    if not tx.mask_gradients:
        raise ValueError(
            "live_blocks: with mask_gradients=False the optimizer reads gradients of masked weights, "
            "and dead blocks have none; leave it True"
        )
    return tx
