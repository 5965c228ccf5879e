"""Oracle: Algorithm 1 of the paper's supplement, line by line, and the encoder that it undoes."""


def encode(positions: list[int], b: int) -> str:
    """Positions from 0 as a string of 0s and 1s."""
    bits, before = "", -1
    for position in positions:
        q, r = divmod(position - before - 1, 2**b)
        bits += "1" * q + "0" + (f"{r:0{b}b}" if b else "")
        before = position
    return bits


def decode(msg: str, b: int, count: int) -> list[int]:
    """Positions from 0; `count` stands for the size of the message, which padding hides."""
    positions = []
    i, q, j = 0, 0, 0
    while i < len(msg) and len(positions) < count:
        if msg[i] == "0":
            j = j + q * 2**b + int("0" + msg[i + 1 : i + 1 + b], 2) + 1
            positions.append(j - 1)
            q = 0
            i = i + b + 1
        else:
            q = q + 1
            i = i + 1
    return positions


def to_bytes(bits: str) -> bytes:
    """Filled up with zeros to whole bytes."""
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))


def to_bits(stream: bytes) -> str:
    """All bits, padding included."""
    return "".join(f"{byte:08b}" for byte in stream)
