"""10^5 mutated frames, half of them with a checksum that holds: an error or a sound payload, never more."""

import random
import struct
import zlib

import pytest

from sparsetrain import wire
from sparsetrain.wire import frame
from tests.wire import samples

MUTATIONS = 100_000


def mutated(generator: random.Random, message: bytes, others: list[bytes]) -> bytes:
    """One to three small changes."""
    body = bytearray(message)
    for _ in range(generator.choice((1, 1, 2, 3))):
        kind = generator.randrange(7)
        at = generator.randrange(len(body) + 1)
        if kind == 0 and at < len(body):
            body[at] ^= 1 << generator.randrange(8)
        elif kind == 1 and at < len(body):
            body[at] = generator.choice((0, 1, 31, 32, 127, 255, generator.randrange(256)))
        elif kind == 2:
            del body[at:]
        elif kind == 3:
            del body[at : at + generator.randrange(9)]
        elif kind == 4:
            body[at:at] = generator.randbytes(generator.randrange(1, 9))
        elif kind == 5:
            body[at:] = generator.choice(others)[at:]
        else:
            # What follows the frame begins with counts and parameters.
            at = min(len(body), frame.FRAME_BYTES + generator.randrange(6))
            body[at : at + 1] = bytes([generator.randrange(256)])
    return bytes(body)


def with_checksum(message: bytes) -> bytes:
    """The message with a length and a checksum that hold; its body is forged."""
    if len(message) < frame.FRAME_BYTES:
        return message
    body = message[frame.FRAME_BYTES :]
    head = message[: frame.HEAD.size - 8] + struct.pack("<Q", len(body))
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


@pytest.mark.timeout(120)
def test_mutated_frames() -> None:
    generator = random.Random(0)
    singles = list(samples.PAYLOADS.values())
    trees = [*singles, singles[::2], singles[1::2], {"a": singles[3], "b": [singles[-1]]}]
    frames = [
        (wire.encode(each, levels=levels), samples.shapes_of(each))
        for each in trees
        for levels in frame.LEVEL_CODES
    ]
    others = [message for message, _ in frames]
    outcomes = {"refused": 0, "decoded": 0, "forged and decoded": 0}
    for number in range(MUTATIONS):
        message, spec = frames[number % len(frames)]
        damaged = mutated(generator, message, others)
        is_forged = (number // len(frames)) % 2 == 1
        if is_forged:
            damaged = with_checksum(damaged)
        try:
            decoded = wire.decode(damaged, like=spec)
        except wire.WireError:
            outcomes["refused"] += 1
            continue
        outcomes["forged and decoded" if is_forged else "decoded"] += 1
        samples.assert_sound(decoded, spec)
        # Without a forged checksum, only a message that is intact comes through.
        assert is_forged or damaged in others
    assert outcomes["refused"] > MUTATIONS / 2
    assert outcomes["forged and decoded"] > MUTATIONS / 20
