"""Records of payloads that say something about every entry; what moves is at most one flag."""

import dataclasses
import math
from typing import Any

import numpy as np

from sparsetrain.payload import Dense, DenseAtFirst, LowRank, Natural, Quantized, Sign
from sparsetrain.wire import elias, record, values
from sparsetrain.wire.bit_fields import pack, padding_is_zero, unpack
from sparsetrain.wire.error import WireError

NATURAL_BITS = 9


def _write_dense(payload: Dense, code: str) -> dict[str, record.Section]:
    return {"values": record.floats(payload.values)}


def _read_dense(like: Dense, cursor: record.Cursor, code: str) -> Dense:
    return Dense(record.take_floats(like.values, cursor))


def _write_sign(payload: Sign, code: str) -> dict[str, record.Section]:
    low, high = (np.asarray(each, record.SCALAR) for each in (payload.low, payload.high))
    if payload.scales == 0 and not (low == -1 and high == 1):
        raise ValueError(
            f"scales=0 stands for -1 and 1, not {low} and {high}: set scales to 1 or 2"
        )
    if payload.scales == 1 and not (low == -high or np.isnan(high)):
        raise ValueError(f"scales=1 stands for low = -high, not {low} and {high}: set scales to 2")
    sent = [[], [high], [low, high]][payload.scales]
    bits = math.prod(payload.shape)
    if payload.bits.shape != (-(-bits // 8),) or not padding_is_zero(payload.bits, bits):
        raise ValueError(
            f"bits: of shape {payload.bits.shape} for {bits} signs; Sign.pack makes them"
        )
    return {
        "scales": record.floats(np.array(sent, record.SCALAR)),
        "signs": record.Section(payload.bits.tobytes(), bits),
    }


def _read_sign(like: Sign, cursor: record.Cursor, code: str) -> Sign:
    scales = values.decode_floats(cursor.take(4 * like.scales), (like.scales,), record.SCALAR)
    fixed = np.array([-1, 1], record.SCALAR)
    low, high = (fixed, np.append(-scales, scales), scales)[like.scales]
    bits = np.frombuffer(cursor.take_bits(math.prod(like.shape)), np.uint8).copy()
    return dataclasses.replace(
        like,
        bits=bits,
        low=low.astype(like.low.dtype),
        high=high.astype(like.high.dtype),
    )


def _write_quantized(payload: Quantized, code: str) -> dict[str, record.Section]:
    levels = payload.levels
    if levels.size and int(np.abs(levels.astype(np.int64)).max()) > payload.s:
        raise ValueError(f"levels: must lie in -{payload.s}..{payload.s}")
    if code == "elias_gamma":
        section = record.Section(*elias.encode_levels(levels))
    else:
        width = payload.level_bits
        section = record.Section(values.encode_levels(levels, width), levels.size * width)
    return {"norms": record.floats(payload.norms, record.SCALAR), "levels": section}


def _read_quantized(like: Quantized, cursor: record.Cursor, code: str) -> Quantized:
    norms = record.take_floats(like.norms, cursor, record.SCALAR)
    count, width = like.levels.shape[0], like.level_bits
    if code == "elias_gamma":
        levels, bits = elias.decode_levels(cursor.rest(), count, like.s)
        cursor.take_bits(bits)
    else:
        levels = values.decode_levels(cursor.take_bits(count * width), count, width, like.s)
    return dataclasses.replace(like, levels=levels.astype(like.levels.dtype), norms=norms)


def _write_natural(payload: Natural, code: str) -> dict[str, record.Section]:
    codes = payload.codes
    if codes.size and int(codes.max()) >> NATURAL_BITS:
        raise ValueError(f"codes: {codes.max()} needs more than {NATURAL_BITS} bits")
    return {"codes": record.Section(pack(codes, NATURAL_BITS).tobytes(), codes.size * NATURAL_BITS)}


def _read_natural(like: Natural, cursor: record.Cursor, code: str) -> Natural:
    count = like.codes.shape[0]
    taken = np.frombuffer(cursor.take_bits(count * NATURAL_BITS), np.uint8)
    codes = unpack(taken, count, NATURAL_BITS).astype(like.codes.dtype)
    return dataclasses.replace(like, codes=codes)


def _write_low_rank(payload: LowRank, code: str) -> dict[str, record.Section]:
    return {
        "p": record.floats(payload.p, record.SCALAR),
        "q": record.floats(payload.q, record.SCALAR),
    }


def _read_low_rank(like: LowRank, cursor: record.Cursor, code: str) -> LowRank:
    p = record.take_floats(like.p, cursor, record.SCALAR)
    return dataclasses.replace(like, p=p, q=record.take_floats(like.q, cursor, record.SCALAR))


def _write_dense_at_first(payload: DenseAtFirst, code: str) -> dict[str, record.Section]:
    if payload.is_dense.shape != ():
        raise ValueError(
            f"is_dense: of shape {payload.is_dense.shape}: send the payload of one worker at a time"
        )
    is_dense = bool(payload.is_dense)
    # The names of both parts, one of which is empty.
    parts = {"header": record.Section(bytes([is_dense]), 8)}
    parts |= dict.fromkeys(("values", "p", "q"), record.Section(b"", 0))
    if is_dense:
        return parts | _write_dense(payload.dense, code)
    return parts | _write_low_rank(payload.factors, code)


def _read_dense_at_first(like: DenseAtFirst, cursor: record.Cursor, code: str) -> DenseAtFirst:
    (flag,) = cursor.take(1)
    if flag > 1:
        raise WireError(f"flag {flag} where 0 or 1 is due: the message is forged")
    if flag:
        dense = _read_dense(like.dense, cursor, code)
        factors = dataclasses.replace(
            like.factors, p=_zeros(like.factors.p), q=_zeros(like.factors.q)
        )
    else:
        dense = Dense(_zeros(like.dense.values))
        factors = _read_low_rank(like.factors, cursor, code)
    return DenseAtFirst(dense, factors, np.asarray(flag, like.is_dense.dtype))


def _zeros(like: Any) -> np.ndarray:
    return np.zeros(like.shape, like.dtype)


RECORDS: dict[type, record.Record] = {
    Dense: record.Record(_write_dense, _read_dense),
    DenseAtFirst: record.Record(_write_dense_at_first, _read_dense_at_first),
    LowRank: record.Record(_write_low_rank, _read_low_rank),
    Natural: record.Record(_write_natural, _read_natural),
    Quantized: record.Record(_write_quantized, _read_quantized),
    Sign: record.Record(_write_sign, _read_sign),
}
