"""Frames: every payload comes back bit by bit, takes the bits it counts, and damage is named."""

import json
import struct
import tracemalloc
import zlib
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from sparsetrain import wire
from sparsetrain.payload import (
    AgreedSparse,
    Dense,
    DenseAtFirst,
    LowRank,
    Payload,
    Sparse,
    SparseBinary,
    SparseTernary,
    is_payload,
)
from sparsetrain.wire import frame
from tests.wire import samples

TREE = {"layers": [samples.PAYLOADS["sparse"], None], "rest": samples.PAYLOADS["quantized"]}
AGREED, DENSE_AT_FIRST, FACTORS_LATER = (
    samples.PAYLOADS[name]
    for name in ("agreed", "dense at first, dense", "dense at first, factors")
)


def forged(message: bytes, body: bytes | None = None) -> bytes:
    """The message, or another body, with a length and a checksum that hold."""
    body = message[frame.FRAME_BYTES :] if body is None else body
    head = frame.HEAD.pack(*frame.HEAD.unpack_from(message)[:3], len(body))
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


@pytest.mark.parametrize("levels", frame.LEVEL_CODES)
@pytest.mark.parametrize("name", samples.PAYLOADS)
def test_every_payload_comes_back(name: str, levels: str) -> None:
    payload = samples.PAYLOADS[name]
    spec = samples.shapes_of(payload)
    message = wire.encode(payload, levels=levels)
    for like in (spec, payload):
        decoded = wire.decode(message, like=like)
        samples.assert_same(decoded, payload)
        samples.assert_sound(decoded, spec)
    assert wire.encode(decoded, levels=levels) == message
    dense = jax.tree.map(np.asarray, (decoded.to_dense(), payload.to_dense()))
    for left, right in zip(jax.tree.leaves(dense[0]), jax.tree.leaves(dense[1]), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", samples.PAYLOADS)
def test_the_wire_takes_the_bits_that_the_payload_counts(name: str) -> None:
    payload = jax.tree.map(jnp.asarray, samples.PAYLOADS[name])
    counted = {part: int(bits) for part, bits in payload.sections().items()}
    written = wire.sections(payload)
    assert list(written) == list(counted)
    assert {part: section.bits for part, section in written.items()} == counted
    assert all(len(section.body) == -(-section.bits // 8) for section in written.values())
    bits = sum(section.bits for part, section in written.items() if part != "header")
    assert bits == int(payload.payload_bits())
    message = wire.encode(payload)
    assert len(message) == frame.FRAME_BYTES + int(payload.wire_bytes())
    assert wire.frame_overhead(payload) == len(message) - bits / 8


def test_trees_in_tree_order() -> None:
    message = wire.encode(TREE)
    decoded = wire.decode(message, like=samples.shapes_of(TREE))
    samples.assert_same(decoded, TREE)
    parts = jax.tree.leaves(TREE, is_leaf=is_payload)
    assert len(message) == 18 + sum(int(part.wire_bytes()) for part in parts)
    assert message[18:] == b"".join(wire.encode(part)[18:] for part in parts)
    assert wire.decode(wire.encode({}), like={}) == {}


def test_the_frame_byte_by_byte() -> None:
    message = wire.encode(samples.PAYLOADS["binary"])
    body = (
        b"\x04\x00\x00\x00"
        + b"\x02"
        + bytes([0b00001010, 0b01100100])
        + np.float32(-0.25).tobytes()
    )
    head = b"SPTW" + b"\x01" + b"\x00" + len(body).to_bytes(8, "little")
    assert message == head + zlib.crc32(head + body).to_bytes(4, "little") + body


def test_a_worker_under_jit_and_its_receiver() -> None:
    @jax.jit
    def compress(u: jax.Array) -> dict[str, Payload]:
        indices = jnp.sort(jax.lax.top_k(jnp.abs(u), 3)[1]).astype(jnp.int32)
        return {"w": Sparse(indices, jnp.int32(3), u.shape, None, values=u[indices])}

    u = jnp.array([0.5, -2.0, 0.1, 3.0, -1.5, 0.0, 1.0, -0.2])
    message = wire.encode(compress(u))
    received = wire.decode(message, like=jax.eval_shape(compress, u))
    assert received["w"].to_dense().tolist() == [0, -2, 0, 3, -1.5, 0, 0, 0]
    jax.block_until_ready(jax.jit(lambda tree: tree["w"].to_dense())(received))


@st.composite
def sparse_payloads(draw: st.DrawFn) -> Payload:
    entries = draw(st.integers(1, 500))
    used = sorted(draw(st.sets(st.integers(0, entries - 1), max_size=30)))
    capacity = len(used) + draw(st.integers(0, 4))
    b = draw(st.none() | st.integers(0, 10))
    where: dict[str, Any] = {**samples.slots(used, capacity, entries), "shape": (entries,), "b": b}
    number = st.floats(width=32, allow_nan=False)
    kind = draw(st.sampled_from([Sparse, AgreedSparse, SparseBinary, SparseTernary]))
    if kind in (Sparse, AgreedSparse):
        numbers = draw(st.lists(number, min_size=len(used), max_size=len(used)))
        return kind(**where, values=samples.first(numbers, capacity))
    mean = np.float32(draw(number))
    if kind is SparseBinary:
        return SparseBinary(**where, mean=mean)
    flags = draw(st.lists(st.booleans(), min_size=len(used), max_size=len(used)))
    return SparseTernary(**where, mean=mean, negative=samples.first(flags, capacity, bool))


@st.composite
def dense_at_first_payloads(draw: st.DrawFn) -> Payload:
    rows, columns, rank = (draw(st.integers(0, most)) for most in (6, 6, 3))
    number = st.floats(width=32, allow_nan=False)

    def matrix(is_sent: bool, *shape: int) -> np.ndarray:
        size = shape[0] * shape[1] if is_sent else 0
        numbers = draw(st.lists(number, min_size=size, max_size=size))
        return samples.first(numbers, shape[0] * shape[1]).reshape(shape)

    is_dense = draw(st.booleans())
    dense = Dense(matrix(is_dense, rows, columns))
    p, q = (matrix(not is_dense, length, rank) for length in (rows, columns))
    return DenseAtFirst(dense, LowRank(p, q, (rows, columns)), np.bool_(is_dense))


@hypothesis.given(payloads=st.lists(sparse_payloads() | dense_at_first_payloads(), max_size=4))
@hypothesis.settings(deadline=None, max_examples=150)
def test_round_trips(payloads: list[Payload]) -> None:
    message = wire.encode(payloads)
    assert len(message) == 18 + sum(int(payload.wire_bytes()) for payload in payloads)
    for like in (payloads, samples.shapes_of(payloads)):
        decoded = wire.decode(message, like=like)
        samples.assert_same(decoded, payloads)
        assert wire.encode(decoded) == message


@pytest.mark.parametrize("name", ["agreed", "agreed, some slots", "agreed, no slot used"])
def test_agreed_positions_are_not_sent(name: str) -> None:
    payload = samples.PAYLOADS[name]
    assert isinstance(payload, AgreedSparse)
    used = int(payload.count)
    message = wire.encode(payload)
    values = np.ascontiguousarray(payload.values[:used])
    assert message[18:] == used.to_bytes(4, "little") + values.tobytes()
    # The receiver's own values have no say, whatever they are; on a device or not.
    for module in (np, jnp):
        own = AgreedSparse(
            module.asarray(payload.indices),
            module.asarray(payload.count),
            payload.shape,
            None,
            values=module.ones_like(payload.values),
        )
        samples.assert_same(wire.decode(message, like=own), payload)


def test_shapes_of_agreed_positions_say_too_little() -> None:
    spec = jax.eval_shape(lambda: {"w": jax.tree.map(jnp.asarray, AGREED)})
    with pytest.raises(ValueError, match=r"agreed positions, such as .* same key") as caught:
        wire.decode(wire.encode({"w": AGREED}), like=spec)
    assert "'w'" in str(caught.value)
    # It is no fault of the message.
    assert not isinstance(caught.value, wire.WireError)


@pytest.mark.parametrize(
    ("payload", "body", "says"),
    [
        (AGREED, lambda b: b"\4" + b[1:], "4 values for 3 agreed positions"),
        (AGREED, lambda b: b"\2" + b[1:], "2 values for 3 agreed positions"),
        (AGREED, lambda b: b"\xff" * 4 + b[4:], "4294967295 values for 3 agreed positions"),
        (AGREED, lambda b: b[:3], "4 bytes are due and 3 left"),
        (AGREED, lambda b: b[:-1], "12 bytes are due and 11 left"),
        (AGREED, lambda b: b + b"\0", "1 bytes behind the last record"),
        (DENSE_AT_FIRST, lambda b: b"\2" + b[1:], "flag 2 where 0 or 1 is due"),
        (DENSE_AT_FIRST, lambda b: b"\xff" + b[1:], "flag 255 where 0 or 1 is due"),
        (DENSE_AT_FIRST, lambda b: b"\0" + b[1:], "bytes behind the last record"),
        (DENSE_AT_FIRST, lambda b: b"", "1 bytes are due and 0 left"),
        (DENSE_AT_FIRST, lambda b: b[:-1], "24 bytes are due and 23 left"),
        (FACTORS_LATER, lambda b: b"\1" + b[1:], "24 bytes are due and 20 left"),
        (FACTORS_LATER, lambda b: b[:-1], "8 bytes are due and 7 left"),
    ],
)
def test_damage_to_what_is_agreed_and_to_flags(payload: Payload, body: Any, says: str) -> None:
    message = wire.encode(payload)
    with pytest.raises(wire.WireError, match=says):
        wire.decode(forged(message, body(message[18:])), like=samples.shapes_of(payload))


@pytest.mark.parametrize("is_dense", [True, False])
def test_only_one_part_is_sent(is_dense: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = ((5, 4), (5, 1), (4, 1))
    whole, p, q = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    payload = DenseAtFirst(Dense(whole), LowRank(p, q, (5, 4)), np.bool_(is_dense))
    message = wire.encode(payload)
    sent = [whole] if is_dense else [p, q]
    assert message[18:] == bytes([is_dense]) + b"".join(array.tobytes() for array in sent)
    assert len(message) == 18 + int(payload.wire_bytes())
    assert int(payload.payload_bits()) == 32 * sum(array.size for array in sent)
    decoded = wire.decode(message, like=samples.shapes_of(payload))
    samples.assert_sound(decoded, samples.shapes_of(payload))
    np.testing.assert_array_equal(decoded.to_dense(), payload.to_dense())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: b"", "0 bytes: a message has 18 at least"),
        (lambda m: m[:17], "17 bytes"),
        (lambda m: m[:-1], "it was cut or has grown"),
        (lambda m: m + b"\0", "it was cut or has grown"),
        (lambda m: b"PK" + m[2:], "no message of ours"),
        (lambda m: m[:4] + b"\2" + m[5:], "format version 2: this release reads version 1"),
        (lambda m: m[:5] + b"\7" + m[6:], "code 7 of levels"),
        (lambda m: m[:6] + b"\xff" * 8 + m[14:], "it was cut or has grown"),
        (lambda m: m[:-1] + bytes([m[-1] ^ 1]), "the checksum does not hold"),
        (lambda m: m[:5] + b"\1" + m[6:], "the checksum does not hold"),
        (lambda m: forged(m, m[18:] + b"\0"), "1 bytes behind the last record"),
        (lambda m: forged(m, m[18:-1]), r"record 1 \('rest'\): .* the message is cut"),
        (lambda m: forged(m, b"\4" + m[19:]), r"record 0 \('layers/0'\): 4 positions for 3 slots"),
        (lambda m: forged(m, b"\xff" * 4 + m[22:]), "4294967295 positions for 3 slots"),
        (lambda m: forged(m, m[18:22] + b"\4" + m[23:]), "b=4 where 3 is agreed"),
        (lambda m: forged(m, m[18:23] + b"\xff" * 9 + m[32:]), "beyond the last of 60|too early"),
        (lambda m: forged(m, m[18:25] + bytes([m[25] | 1]) + m[26:]), "padding that is not zero"),
        (lambda m: forged(m, m[:-1] + b"\xff")[:-1], "it was cut or has grown"),
    ],
)
def test_damage_is_named(change: Any, says: str) -> None:
    message = wire.encode(TREE)
    with pytest.raises(wire.WireError, match=says):
        wire.decode(change(message), like=samples.shapes_of(TREE))


def test_every_flipped_bit_and_every_cut_is_seen() -> None:
    message, spec = wire.encode(TREE), samples.shapes_of(TREE)
    for bit in range(8 * len(message)):
        damaged = bytearray(message)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(wire.WireError):
            wire.decode(damaged, like=spec)
    for length in range(len(message)):
        with pytest.raises(wire.WireError):
            wire.decode(message[:length], like=spec)


def test_a_message_for_another_tree() -> None:
    message = wire.encode(samples.PAYLOADS["binary"])
    with pytest.raises(wire.WireError):
        wire.decode(message, like=samples.shapes_of(samples.PAYLOADS["low rank"]))


@pytest.mark.parametrize("b", [0, 5, 31])
def test_forged_counts_allocate_nothing(b: int) -> None:
    entries, capacity = 2**31 - 2, 2**24
    integer = jax.ShapeDtypeStruct((), jnp.int32)
    like = SparseBinary(
        jax.ShapeDtypeStruct((capacity,), jnp.int32),
        integer,
        (entries,),
        None,
        mean=jax.ShapeDtypeStruct((), jnp.float32),
    )
    body = capacity.to_bytes(4, "little") + bytes([b]) + b"\xaa" * 1000
    message = forged(wire.encode([]), body)
    wire.encode(samples.PAYLOADS["binary"])  # what is compiled once does not count
    tracemalloc.start()
    with pytest.raises(wire.WireError):
        wire.decode(message, like=like)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (jnp.ones(3), "ArrayImpl is no payload; compress it, or wrap it in Dense"),
        (Dense(jnp.arange(3)), "int32; only floats"),
        (
            SparseBinary(np.array([3, 1]), np.int32(2), (9,), 2, mean=np.float32(1)),
            "strictly rising",
        ),
        (SparseBinary(np.array([3, 9]), np.int32(2), (9,), 2, mean=np.float32(1)), "beyond"),
        (SparseBinary(np.array([3, 4]), np.int32(3), (9,), 2, mean=np.float32(1)), "count=3"),
        (
            AgreedSparse(np.array([3, 1]), np.int32(2), (9,), None, values=np.ones(2)),
            "strictly rising",
        ),
        (AgreedSparse(np.array([3, 9]), np.int32(2), (9,), None, values=np.ones(2)), "beyond"),
        (AgreedSparse(np.array([3]), np.int32(2), (9,), None, values=np.ones(1)), "count=2"),
        (
            DenseAtFirst(Dense(np.ones((2, 2))), samples.PAYLOADS["low rank"], np.ones(3, bool)),
            "is_dense: of shape",
        ),
        (samples.sign([True], -2.0, 2.0, 0), "scales=0 stands for -1 and 1"),
        (samples.sign([True], -2.0, 1.0, 1), "scales=1 stands for low = -high"),
    ],
)
def test_payloads_that_break_their_own_rules(payload: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        wire.encode({"hidden": [payload]})
    assert "hidden/0" in str(caught.value)
    assert not isinstance(caught.value, wire.WireError)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="levels='omega'"):
        wire.encode(TREE, levels="omega")
    with pytest.raises(ValueError, match="is no payload"):
        wire.decode(wire.encode(TREE), like=[jnp.ones(3)])
    with pytest.raises(ValueError, match="is no payload"):
        wire.frame_overhead({"a": 1.0})
    assert json.dumps(wire.frame_overhead(TREE))
