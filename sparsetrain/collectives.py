"""The mean of what workers sent, by the collective that moves fewer bytes.

        all-gather of payloads:   every worker receives W - 1 messages of m bytes:      (W - 1) m
        ring all-reduce, dense:   every worker passes on its share twice:               2 (W - 1) n / W

So a payload of K pairs of words is gathered while K / N < 1 / W, and summed densely beyond. Payloads have
fixed shapes, so that the choice is made when the program is traced, and is the same under `vmap` (workers
simulated on one device) and under `shard_map` (a worker a device).

What is gathered of all tensors travels together: a message of a few kilobytes waits for its start longer than
for the line, and a model has hundreds of tensors of three arrays each.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import varying
from sparsetrain.payload import Payload, Sparse, is_payload

_log = logging.getLogger(__name__)

# Larger arrays travel alone: they are not worth the copy that puts them beside others.
PACKED_BYTES = 1 << 18


def mean(payload: Payload, axis_name: Any) -> Any:
    """Mean over the workers of the dense forms of one payload, see `means`.

    Example:
      >>> from sparsetrain.payload import Sparse
      >>> def of_worker(index, value):
      ...     return mean(Sparse(index[None], jnp.int32(1), (9,), values=value[None]), "workers")
      >>> jax.vmap(of_worker, axis_name="workers", out_axes=None)(jnp.array([1, 3]), jnp.array([2.0, 4.0]))[:5].tolist()
      [0.0, 1.0, 0.0, 2.0, 0.0]
    """
    return means([payload], axis_name)[0]


def means(payloads: Sequence[Payload], axis_name: Any) -> list[Any]:
    """Means over the workers of the dense forms of their payloads, each by the collective that moves fewer bytes.

    Gathered payloads are added up in the order of the workers, so that the result is the same to the bit
    on all of them, and in simulation.

    Args:
      payloads: this worker's, one a tensor; all workers have the same shapes.
      axis_name: of `vmap` or `shard_map`; None for one worker.

    Returns:
      Of each as `payload.to_dense()`; the same on all workers, also in the eyes of `shard_map`.
    """
    if axis_name is None:
        return [payload.to_dense() for payload in payloads]
    workers = lax.axis_size(axis_name)
    is_gathered = [_pays(payload, workers) for payload in payloads]
    chosen = [payload for payload, pays in zip(payloads, is_gathered, strict=True) if pays]
    heard = iter(_of_all(axis_name, chosen))
    return [
        _added(next(heard), payload, workers)
        if pays
        else jax.tree.map(lambda leaf: lax.pmean(leaf, axis_name), payload.to_dense())
        for payload, pays in zip(payloads, is_gathered, strict=True)
    ]


def _pays(payload: Payload, workers: int) -> bool:
    """Whether a payload is gathered."""
    gathered, dense = gather_bytes(payload, workers), dense_bytes(payload, workers)
    if gathered >= dense and dense:  # Not of an empty tensor.
        _log.info(
            "%s: %d bytes by all-gather, %d by a dense all-reduce of %d workers: dense",
            type(payload).__name__,
            gathered,
            dense,
            workers,
        )
    return gathered < dense


def _of_all(axis_name: Any, payloads: list[Payload]) -> list[Payload]:
    """The payloads of all workers, [W] before every axis; small arrays of one width in a single all-gather."""
    leaves, structure = jax.tree.flatten(payloads)
    alone: list[int] = []
    together: dict[int, list[int]] = {}
    for number, leaf in enumerate(leaves):
        if _size(leaf) > PACKED_BYTES or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            alone.append(number)
        else:
            together.setdefault(leaf.dtype.itemsize, []).append(number)
    found: dict[int, jax.Array] = {}
    for number in alone:
        found[number] = varying.of_all(axis_name, leaves[number])
    for width, numbers in together.items():
        bits = jnp.dtype(f"uint{8 * width}")
        packed = jnp.concatenate([_as(bits, leaves[number]).reshape(-1) for number in numbers])
        everyone, start = varying.of_all(axis_name, packed), 0
        for number in numbers:
            leaf = leaves[number]
            part = lax.slice_in_dim(everyone, start, start + leaf.size, axis=1)
            found[number] = _as(leaf.dtype, part.reshape(-1, *leaf.shape))
            start += leaf.size
    return jax.tree.unflatten(structure, [found[number] for number in range(len(leaves))])


def _as(dtype: Any, leaf: jax.Array) -> jax.Array:
    """The same bits in another type of the same width."""
    if jnp.bool_ in (leaf.dtype, dtype):
        return leaf.astype(dtype)
    return lax.bitcast_convert_type(leaf, dtype)


def _added(everyone: Payload, payload: Payload, workers: int) -> Any:
    """Mean of the dense forms of gathered payloads, shaped like the worker's own."""

    def add(worker: jax.Array, total: jax.Array) -> jax.Array:
        return jax.tree.map(lambda leaf: leaf[worker], everyone).added_to(total)

    # Payloads of tensors in pieces differ along other axes, between the pieces.
    nothing = varying.over(varying.axes_of(everyone), payload.nothing())
    total = lax.fori_loop(0, workers, add, nothing)
    return payload.shaped(total / workers)


def moved_bytes(payload: Payload, workers: int) -> int:
    """Bytes that leave each worker in `mean`, in a ring.

    Example:
      >>> from sparsetrain.payload import Sparse
      >>> payload = Sparse(jnp.zeros(2, jnp.int32), jnp.int32(2), (1000,), values=jnp.zeros(2))
      >>> moved_bytes(payload, 4), moved_bytes(payload, 1)
      (60, 0)
    """
    return min(gather_bytes(payload, workers), dense_bytes(payload, workers))


def gather_bytes(payload: Payload, workers: int) -> int:
    """Bytes that leave each worker if payloads are gathered: (W - 1) of what its arrays hold."""
    return (workers - 1) * sum(_size(leaf) for leaf in jax.tree.leaves(payload))


def dense_bytes(payload: Payload, workers: int) -> int:
    """Bytes that leave each worker if dense forms are all-reduced: 2 (W - 1) / W of them."""
    dense = jax.eval_shape(lambda: payload.to_dense())
    return sum(ring_bytes(_size(leaf), workers) for leaf in jax.tree.leaves(dense))


def ring_bytes(size: int, workers: int) -> int:
    """Bytes that leave each worker in a ring all-reduce of so many.

    Example:
      >>> ring_bytes(1000, 4)
      1500
    """
    return 2 * (workers - 1) * size // workers


def pair_bytes(payloads: Any) -> tuple[int, int]:
    """Bytes of (positions, values) of all sparse payloads of a tree; tensors without entries have none."""
    each = jax.tree.leaves(payloads, is_leaf=is_payload)
    sparse = [payload for payload in each if isinstance(payload, Sparse)]
    return (
        sum(_size(payload.indices) for payload in sparse),
        sum(_size(payload.values) for payload in sparse),
    )


def _size(leaf: Any) -> int:
    return math.prod(jnp.shape(leaf)) * jnp.result_type(leaf).itemsize
