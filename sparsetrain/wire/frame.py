"""Frames: the payloads of one message between a header with a checksum and its declared end.

    magic 4 | version 1 | code of levels 1 | body length 8 | CRC32 of all the rest 4 | one record a payload

Integers are little-endian. Shapes, dtypes, agreed parameters and agreed positions are not sent: both
sides know them.
"""

import struct
import zlib
from typing import Any

import jax
import numpy as np

from sparsetrain import tree
from sparsetrain.payload import Payload, is_payload
from sparsetrain.wire import sparse_record, whole_record
from sparsetrain.wire.error import WireError
from sparsetrain.wire.record import Cursor, Record, Section

MAGIC = b"SPTW"
VERSION = 1
LEVEL_CODES = ("fixed", "elias_gamma")
HEAD = struct.Struct("<4sBBQ")
CHECKSUM = struct.Struct("<I")
FRAME_BYTES = HEAD.size + CHECKSUM.size
RECORDS: dict[type, Record] = {**sparse_record.RECORDS, **whole_record.RECORDS}


def encode(payloads: Any, *, levels: str = "fixed") -> bytes:
    """One message.

    Args:
      payloads: any pytree whose leaves are payloads of arrays. A worker that is silent sends no
        message.
      levels: code of the levels of `Quantized`: "fixed" width, which is what its `payload_bits`
        counts, or "elias_gamma", which is shorter where most levels are zero or small.

    Returns:
      The message: 18 bytes and the records, `payload.wire_bytes()` each, in tree order. Values keep
      their dtype and every bit; means, norms, scales and factors travel as float32.

    Raises:
      ValueError: a leaf that is no payload, or a payload that does not keep its own rules; the
        message says where.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain.payload import SparseBinary
      >>> update = SparseBinary(jnp.array([0, 3]), jnp.int32(2), (8,), mean=jnp.float32(0.5))
      >>> len(encode({"kernel": update}))                # 18, then header 5, positions 1, mean 4
      28
    """
    code = _code_number(levels)
    parts = []
    for number, payload in enumerate(_payloads(payloads)):
        try:
            parts += [section.body for section in sections(payload, levels).values()]
        except ValueError as error:
            raise ValueError(f"payload {_where(payloads, number)}: {error}") from error
    body = b"".join(parts)
    head = HEAD.pack(MAGIC, VERSION, code, len(body))
    return head + CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) + body


def decode(message: bytes | bytearray | memoryview, like: Any) -> Any:
    """The payloads of a message.

    Args:
      message: what `encode` returned, from anybody.
      like: the same pytree of payloads, of arrays or of shapes: `jax.eval_shape` of what the sender
        computes. It says what may come, and bounds it. Of `AgreedSparse` the positions must be
        arrays, since they are not sent: the receiver's own payload, made with the same key.

    Returns:
      The payloads, of new NumPy arrays. Unused slots of sparse ones hold distinct indices beyond
      the tensor and zeros; the part that `DenseAtFirst` did not send is zeros.

    Raises:
      WireError: the message is cut, damaged, made for another version or tree, or forged. Nothing
        else is raised, whatever the bytes: memory and time are bounded by the lengths of the
        message and of `like`, and indices always rise and lie within their tensor.
      ValueError: a leaf of `like` is no payload, or agreed positions are missing from it.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from sparsetrain.payload import SparseBinary
      >>> update = SparseBinary(jnp.array([0, 3]), jnp.int32(2), (5,), mean=jnp.float32(0.5))
      >>> spec = jax.eval_shape(lambda: update)
      >>> decode(encode(update), like=spec).to_dense().tolist()
      [0.5, 0.0, 0.0, 0.5, 0.0]
      >>> decode(encode(update)[:-1], like=spec)
      Traceback (most recent call last):
      sparsetrain.wire.error.WireError: 27 bytes of a message of 28: it was cut or has grown
    """
    shapes = _payloads(like)
    for number, shape in enumerate(shapes):
        try:
            RECORDS[type(shape)].check(shape)
        except ValueError as error:
            raise ValueError(f"like {_where(like, number)}: {error}") from error
    levels, body = _opened(memoryview(message).cast("B"))
    cursor, received = Cursor(body), []
    for number, shape in enumerate(shapes):
        try:
            received.append(RECORDS[type(shape)].read(shape, cursor, levels))
        except WireError as error:
            raise WireError(f"record {_where(like, number)}: {error}") from error
    if left := len(cursor.rest()):
        raise WireError(f"{left} bytes behind the last record: the message is for another tree")
    return jax.tree.unflatten(jax.tree.structure(like, is_leaf=is_payload), received)


def sections(payload: Payload, levels: str = "fixed") -> dict[str, Section]:
    """Parts of one record, by the names of `payload.sections()`.

    Args:
      payload: of arrays.
      levels: as for `encode`.

    Returns:
      Name -> bytes and how many of their bits are not padding.

    Raises:
      ValueError: the payload does not keep its own rules.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain.payload import LowRank
      >>> sections(LowRank(jnp.ones((3, 1)), jnp.ones((2, 1)), (3, 2)))["q"].bits
      64
    """
    _code_number(levels)
    on_host = jax.tree.map(np.asarray, payload)
    return RECORDS[type(payload)].write(on_host, levels)


def frame_overhead(payloads: Any) -> float:
    """Bytes of a message apart from payload bits: frame, headers, and padding to whole bytes.

        18 + sum over payloads of (wire bytes - payload bits / 8)

    Args:
      payloads: as for `encode`, whose default code of levels is counted.

    Returns:
      Bytes, a multiple of 1/8.

    Raises:
      ValueError: a leaf that is no payload.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain.payload import Dense
      >>> frame_overhead([Dense(jnp.ones(3))])
      18.0
    """
    found = _payloads(payloads)
    payload_bits = sum(int(payload.payload_bits()) for payload in found)
    return FRAME_BYTES + sum(int(payload.wire_bytes()) for payload in found) - payload_bits / 8


def _opened(message: memoryview) -> tuple[str, memoryview]:
    """Code of levels and body of a frame whose header and checksum hold."""
    if len(message) < FRAME_BYTES:
        raise WireError(f"{len(message)} bytes: a message has {FRAME_BYTES} at least")
    magic, version, code, length = HEAD.unpack_from(message)
    if magic != MAGIC:
        raise WireError(f"it begins with {magic!r} and not with {MAGIC!r}: no message of ours")
    if version != VERSION:
        raise WireError(f"format version {version}: this release reads version {VERSION}")
    if code >= len(LEVEL_CODES):
        raise WireError(f"code {code} of levels: this release knows {LEVEL_CODES}")
    body = message[FRAME_BYTES:]
    if length != len(body):
        whole = FRAME_BYTES + length
        raise WireError(f"{len(message)} bytes of a message of {whole}: it was cut or has grown")
    (checksum,) = CHECKSUM.unpack_from(message, HEAD.size)
    if checksum != zlib.crc32(body, zlib.crc32(message[: HEAD.size])):
        raise WireError("the checksum does not hold: the message was damaged on the way")
    return LEVEL_CODES[code], body


def _code_number(levels: str) -> int:
    if levels not in LEVEL_CODES:
        raise ValueError(f"levels={levels!r}: choose one of {LEVEL_CODES}")
    return LEVEL_CODES.index(levels)


def _payloads(nodes: Any) -> list[Any]:
    leaves = jax.tree.leaves(nodes, is_leaf=is_payload)
    for number, leaf in enumerate(leaves):
        if type(leaf) not in RECORDS:
            raise ValueError(
                f"{_where(nodes, number)}: {type(leaf).__name__} is no payload; compress it, or wrap it in Dense"
            )
    return leaves


def _where(nodes: Any, number: int) -> str:
    """Number of a payload and its path in the tree."""
    found = jax.tree_util.tree_leaves_with_path(nodes, is_leaf=is_payload)
    return f"{number} ('{tree.join(found[number][0])}')"
