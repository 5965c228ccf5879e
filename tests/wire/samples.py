"""One small payload of every kind, of NumPy arrays, and what must hold of whatever is decoded."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain.payload import (
    AgreedSparse,
    Dense,
    DenseAtFirst,
    LowRank,
    Natural,
    Payload,
    Quantized,
    Sign,
    Sparse,
    SparseBinary,
    SparseTernary,
    SparseTree,
    is_payload,
)


def slots(used: list[int], capacity: int, entries: int) -> dict[str, Any]:
    """Indices and count as compressors leave them."""
    indices = np.arange(entries, entries + capacity, dtype=np.int32)
    indices[: len(used)] = used
    return {"indices": indices, "count": np.asarray(len(used), np.int32)}


def first(used: list[Any], capacity: int, dtype: Any = np.float32) -> np.ndarray:
    """Values in the first slots, zeros behind them."""
    array = np.zeros(capacity, dtype)
    array[: len(used)] = used
    return array


def sign(flags: list[bool], low: float, high: float, scales: int) -> Sign:
    """Of one axis."""
    bits = np.packbits(np.array(flags, bool))
    return Sign(bits, np.float32(low), np.float32(high), (len(flags),), scales)


F32 = np.float32
PAYLOADS: dict[str, Payload] = {
    "dense": Dense(np.array([[1.5, -0.0, np.inf]], F32)),
    "dense bfloat16": Dense(np.array([1.5, -3.0], jnp.bfloat16)),
    "dense empty": Dense(np.zeros((0, 3), F32)),
    "sparse": Sparse(
        **slots([2, 17, 59], 3, 60), shape=(6, 10), b=3, values=first([1.0, -2.0, 0.5], 3)
    ),
    "sparse, some slots": Sparse(
        **slots([0, 59], 5, 60), shape=(60,), b=None, values=first([1.0, 2.0], 5, jnp.bfloat16)
    ),
    "sparse, no slot used": Sparse(**slots([], 2, 9), shape=(9,), b=None, values=first([], 2)),
    "sparse, all entries": Sparse(
        **slots([0, 1, 2], 3, 3), shape=(3,), b=None, values=first([3.0, 2.0, 1.0], 3)
    ),
    "sparse, empty tensor": Sparse(**slots([], 0, 0), shape=(0,), b=None, values=first([], 0)),
    "agreed": AgreedSparse(
        **slots([2, 17, 59], 3, 60), shape=(6, 10), b=None, values=first([1.0, -2.0, 0.5], 3)
    ),
    "agreed, some slots": AgreedSparse(
        **slots([0, 59], 5, 60), shape=(60,), b=None, values=first([1.0, 2.0], 5, jnp.bfloat16)
    ),
    "agreed, no slot used": AgreedSparse(
        **slots([], 2, 9), shape=(9,), b=None, values=first([], 2)
    ),
    "binary": SparseBinary(**slots([0, 3, 9, 15], 4, 16), shape=(16,), b=2, mean=F32(-0.25)),
    "binary, b free": SparseBinary(**slots([7], 3, 300), shape=(300,), b=None, mean=F32(2.0)),
    "ternary": SparseTernary(
        **slots([1, 30, 31], 4, 40),
        shape=(4, 10),
        b=4,
        mean=F32(0.5),
        negative=first([True, False, True], 4, bool),
    ),
    "tree": SparseTree(
        first([1.0, 2.0, 3.0], 4),
        first([2, 0, 5], 4, np.int32),
        np.array([1, 0, 2], np.int32),
        ((3,), (0,), (2, 3)),
        None,
    ),
    "tree, b agreed": SparseTree(
        first([1.0], 1), first([4], 1, np.int32), np.array([0, 1], np.int32), ((3,), (5,)), 2
    ),
    "sign 0": sign([True, False, False], -1.0, 1.0, 0),
    "sign 1": sign([True] * 9, -0.5, 0.5, 1),
    "sign 2": sign([False, True] * 8, -0.25, 0.75, 2),
    "quantized": Quantized(
        np.array([0, 1, -3, 5, 0, 0, -5], np.int8), np.array([1.0, 0.0], F32), (7,), 5, 4
    ),
    "ternary levels": Quantized(
        np.array([0, 1, -1, 0], np.int8), np.array([2.0], F32), (2, 2), 1, 4
    ),
    "natural": Natural(np.array([0, 511, 256, 100], np.uint16), (2, 2)),
    "low rank": LowRank(np.arange(6, dtype=F32).reshape(3, 2), np.ones((2, 2), F32), (3, 2)),
    "dense at first, dense": DenseAtFirst(
        Dense(np.array([[1.5, -0.0], [np.inf, 2.0], [3.0, 4.0]], F32)),
        LowRank(np.zeros((3, 1), F32), np.zeros((2, 1), F32), (3, 2)),
        np.bool_(True),
    ),
    "dense at first, factors": DenseAtFirst(
        Dense(np.zeros((3, 2), F32)),
        LowRank(np.arange(3, dtype=F32)[:, None], np.ones((2, 1), F32), (3, 2)),
        np.bool_(False),
    ),
}


def shapes_of(payloads: Any) -> Any:
    """What a receiver knows: shapes, and the positions that are agreed."""
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, payloads))

    def known(shape: Payload, payload: Payload) -> Payload:
        if not (isinstance(shape, AgreedSparse) and isinstance(payload, AgreedSparse)):
            return shape
        return dataclasses.replace(shape, indices=payload.indices, count=payload.count)

    return jax.tree.map(known, shapes, payloads, is_leaf=is_payload)


def assert_same(found: Any, expected: Any) -> None:
    """Equal structure, dtypes, shapes and bytes of all arrays."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert isinstance(left, np.ndarray | np.generic)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == np.asarray(right).tobytes()


def assert_sound(payloads: Any, spec: Any) -> None:
    """Right shapes; positions that rise and lie within their tensor; levels on their grid."""
    for left, right in zip(jax.tree.leaves(payloads), jax.tree.leaves(spec), strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
    for payload in jax.tree.leaves(payloads, is_leaf=is_payload):
        if isinstance(payload, SparseTree):
            counts = payload.counts.tolist()
            assert min(counts) >= 0 and sum(counts) <= payload.indices.size
            begin = 0
            for size, count in zip(payload.sizes, counts, strict=True):
                _assert_rising(payload.indices[begin : begin + count].tolist(), size)
                begin += count
        elif hasattr(payload, "indices"):
            count = int(payload.count)
            assert 0 <= count <= payload.indices.size
            _assert_rising(payload.indices[:count].tolist(), payload.entries)
            unused = payload.indices[count:].tolist()
            assert len(set(unused)) == len(unused)
            assert min(unused, default=payload.entries) >= payload.entries
        elif isinstance(payload, DenseAtFirst):
            assert payload.is_dense.dtype == bool
            other = payload.factors if payload.is_dense else payload.dense
            assert not any(leaf.any() for leaf in jax.tree.leaves(other))
        elif isinstance(payload, Quantized):
            assert not payload.levels.size or int(np.abs(payload.levels).max()) <= payload.s
        elif isinstance(payload, Natural):
            assert not payload.codes.size or int(payload.codes.max()) < 512


def _assert_rising(indices: list[int], entries: int) -> None:
    assert all(a < b for a, b in zip([-1, *indices], [*indices, entries], strict=True))
