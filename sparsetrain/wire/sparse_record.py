"""Records of payloads of some positions: count and code parameter, positions, then what is there."""

import dataclasses
from typing import Any

import numpy as np

from sparsetrain.payload import AgreedSparse, Sparse, SparseBinary, SparseTernary, SparseTree
from sparsetrain.wire import gaps, golomb, record, values
from sparsetrain.wire.error import WireError

_COUNT_BYTES = 4


def _position_sections(payload: Any, positions: np.ndarray) -> dict[str, record.Section]:
    b = int(payload.code_parameter())
    header = int(positions.size).to_bytes(_COUNT_BYTES, "little") + b.to_bytes(1, "little")
    _check_last(payload, positions)
    return {
        "header": record.Section(header, 8 * len(header)),
        "positions": record.Section(*golomb.encode_positions(positions, b)),
    }


def _check_last(payload: Any, positions: np.ndarray) -> None:
    if positions.size and int(positions[-1]) >= payload.entries:
        raise ValueError(
            f"indices: {positions[-1]} lies beyond the last of {payload.entries} entries"
        )


def _take_positions(like: Any, cursor: record.Cursor) -> np.ndarray:
    header = cursor.take(_COUNT_BYTES + 1)
    count, b = int.from_bytes(header[:_COUNT_BYTES], "little"), header[_COUNT_BYTES]
    slots = like.indices.shape[0]
    if count > slots:
        raise WireError(f"{count} positions for {slots} slots: the message is forged")
    if b > golomb.LARGEST_PARAMETER or like.b not in (None, b):
        raise WireError(f"position code with b={b} where {like.b} is agreed: the message is forged")
    positions = golomb.decode_positions(cursor.rest(), count, b, like.entries)
    cursor.take_bits(golomb.code_bits(positions, b))
    return positions


def _used(payload: Any) -> np.ndarray:
    slots, count = payload.indices.shape, int(payload.count)
    if len(slots) != 1 or not 0 <= count <= slots[0]:
        raise ValueError(
            f"count={count} for indices of shape {slots}: send the payload of one worker at a time"
        )
    return payload.indices[:count]


def _slots(like: Any, positions: np.ndarray) -> dict[str, Any]:
    """Indices and count; unused slots hold distinct numbers beyond the tensor, as compressors leave them."""
    slots = like.indices.shape[0]
    indices = np.arange(like.entries, like.entries + slots).astype(like.indices.dtype)
    indices[: positions.size] = positions
    return {"indices": indices, "count": np.asarray(positions.size, like.count.dtype)}


def _write_sparse(payload: Sparse, code: str) -> dict[str, record.Section]:
    used = _used(payload)
    return {
        **_position_sections(payload, used),
        "values": record.floats(payload.values[: used.size]),
    }


def _read_sparse(like: Sparse, cursor: record.Cursor, code: str) -> Sparse:
    positions = _take_positions(like, cursor)
    sent = record.take_floats(like.values, cursor, count=positions.size)
    return dataclasses.replace(like, values=sent, **_slots(like, positions))


def _agreed(payload: AgreedSparse) -> np.ndarray:
    """The positions that all workers know, of arrays of any kind."""
    indices, count = np.asarray(payload.indices), np.asarray(payload.count)
    positions = _used(dataclasses.replace(payload, indices=indices, count=count))
    gaps.gaps_of(positions)  # Raises where they do not rise.
    _check_last(payload, positions)
    return positions


def _check_agreed(like: AgreedSparse) -> None:
    # Shapes, as from `jax.eval_shape`, are no arrays.
    if not all(hasattr(part, "__array__") for part in (like.indices, like.count)):
        raise ValueError(
            "positions are agreed and not sent, and these are shapes only: pass a payload with the "
            "agreed positions, such as the receiver's own, compressed with the same key and step"
        )
    _agreed(like)


def _write_agreed(payload: AgreedSparse, code: str) -> dict[str, record.Section]:
    used = _agreed(payload)
    header = int(used.size).to_bytes(_COUNT_BYTES, "little")
    return {
        "header": record.Section(header, 8 * len(header)),
        "values": record.floats(payload.values[: used.size]),
    }


def _read_agreed(like: AgreedSparse, cursor: record.Cursor, code: str) -> AgreedSparse:
    positions = _agreed(like)
    count = int.from_bytes(cursor.take(_COUNT_BYTES), "little")
    if count != positions.size:
        raise WireError(
            f"{count} values for {positions.size} agreed positions: the message is forged, or its "
            "sender has another key or step"
        )
    sent = record.take_floats(like.values, cursor, count=count)
    return dataclasses.replace(like, values=sent, **_slots(like, positions))


def _write_binary(payload: SparseBinary, code: str) -> dict[str, record.Section]:
    return {
        **_position_sections(payload, _used(payload)),
        "mean": record.floats(payload.mean, record.SCALAR),
    }


def _read_binary(like: SparseBinary, cursor: record.Cursor, code: str) -> SparseBinary:
    positions = _take_positions(like, cursor)
    mean = record.take_floats(like.mean, cursor, record.SCALAR)
    return dataclasses.replace(like, mean=mean, **_slots(like, positions))


def _write_ternary(payload: SparseTernary, code: str) -> dict[str, record.Section]:
    used = _used(payload)
    signs = values.encode_signs(payload.negative[: used.size])
    return {
        **_position_sections(payload, used),
        "mean": record.floats(payload.mean, record.SCALAR),
        "signs": record.Section(signs, used.size),
    }


def _read_ternary(like: SparseTernary, cursor: record.Cursor, code: str) -> SparseTernary:
    positions = _take_positions(like, cursor)
    mean = record.take_floats(like.mean, cursor, record.SCALAR)
    signs = values.decode_signs(cursor.take_bits(positions.size), positions.size)
    negative = record.filled(signs, like.negative)
    return dataclasses.replace(like, mean=mean, negative=negative, **_slots(like, positions))


def _write_tree(payload: SparseTree, code: str) -> dict[str, record.Section]:
    counts = payload.counts.astype(np.int64)
    used = int(counts.sum())
    if payload.indices.ndim != 1 or counts.min(initial=0) < 0 or used > payload.indices.size:
        raise ValueError(
            f"counts sum to {used} for indices of shape {payload.indices.shape}: "
            "send the payload of one worker at a time"
        )
    inside = payload.indices[:used].astype(np.int64)
    if used and (inside.min() < 0 or (inside >= np.repeat(payload.sizes, counts)).any()):
        raise ValueError("indices: one lies beyond the last entry of its leaf")
    starts = np.cumsum([0, *payload.sizes[:-1]])[: counts.size]
    positions = inside + np.repeat(starts, counts)
    return {
        **_position_sections(payload, positions),
        "values": record.floats(payload.values[:used]),
    }


def _read_tree(like: SparseTree, cursor: record.Cursor, code: str) -> SparseTree:
    positions = _take_positions(like, cursor)
    sent = record.take_floats(like.values, cursor, count=positions.size)
    ends = np.cumsum(np.array(like.sizes, np.int64))
    leaf = np.searchsorted(ends, positions, side="right")
    counts = np.bincount(leaf, minlength=ends.size)
    inside = positions - (ends - np.array(like.sizes, np.int64))[leaf]
    return dataclasses.replace(
        like,
        values=sent,
        indices=record.filled(inside, like.indices),
        counts=counts.astype(like.counts.dtype),
    )


RECORDS: dict[type, record.Record] = {
    AgreedSparse: record.Record(_write_agreed, _read_agreed, _check_agreed),
    Sparse: record.Record(_write_sparse, _read_sparse),
    SparseBinary: record.Record(_write_binary, _read_binary),
    SparseTernary: record.Record(_write_ternary, _read_ternary),
    SparseTree: record.Record(_write_tree, _read_tree),
}
