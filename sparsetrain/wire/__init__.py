"""Payloads to bytes and back, on the host: position codes, level codes, frames, and what no code can beat."""

from sparsetrain.wire.bound import combinatorial_bits, entropy_bits, payload_bound
from sparsetrain.wire.error import WireError
from sparsetrain.wire.frame import decode, encode, frame_overhead, sections
from sparsetrain.wire.golomb import (
    decode_positions,
    encode_positions,
    expected_bits,
    golomb_parameter,
)

__all__ = [
    "WireError",
    "combinatorial_bits",
    "decode",
    "decode_positions",
    "encode",
    "encode_positions",
    "entropy_bits",
    "expected_bits",
    "frame_overhead",
    "golomb_parameter",
    "payload_bound",
    "sections",
]
