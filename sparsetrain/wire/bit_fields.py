"""Fields of bits: put many of them into one stream, most significant bit first, and read them back."""

import numpy as np

# What a decoder takes.
Bytes = bytes | bytearray | memoryview | np.ndarray
WORD = 32
# A field of 33 bits, shifted by up to 31, still fits into 64.
WIDEST_PLACED = 33
# Eight bytes that begin with the byte in which a field starts hold at least 57 bits of it.
WIDEST_READ = 57
# Fields handled at a time, so that what is computed on the way stays in cache.
BATCH = 1 << 14


class Stream:
    """A stream of zeros in which fields are placed, batch by batch, from the front."""

    def __init__(self) -> None:
        self._closed: list[np.ndarray] = []
        self._first = 0  # number of the word that is still open
        self._open = 0.0

    def add(self, values: np.ndarray, ends: np.ndarray) -> None:
        """As `place`, for one field or more; the ends continue those of the batch before."""
        word = (ends - 1) >> 5
        shifted = values.astype(np.uint64) << (-ends & 31).astype(np.uint64)
        local = word - (self._first - 1)
        # Fields do not overlap, so a sum is a bitwise or, and below 2^32 it is exact in a float64.
        words = np.bincount(local, shifted & np.uint64(0xFFFFFFFF))
        high = np.bincount(local, shifted >> np.uint64(WORD))
        words[: high.size - 1] += high[1:]
        words[1] += self._open
        self._closed.append(words[1:-1].astype(np.uint32))
        self._first, self._open = int(word[-1]), float(words[-1])

    def to_bytes(self, bits: int) -> np.ndarray:
        """The stream up to its last end, uint8."""
        words = np.concatenate([*self._closed, np.array([self._open], np.uint32)])
        return words.astype(">u4").view(np.uint8)[: -(-bits // 8)]


def place(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A stream of zeros with a field in front of every given end.

    Args:
      values: [K] non-negative integers below 2^33.
      ends: [K] int64, where the bit behind each field lies. They rise, by at least the bits that
        the next value needs.

    Returns:
      uint8 [ceil(last end / 8)].

    Example:
      >>> np.unpackbits(place(np.array([1, 3]), np.array([3, 6]))).tolist()      # 0 01 0 11
      [0, 0, 1, 0, 1, 1, 0, 0]
    """
    stream = Stream()
    for start in range(0, len(ends), BATCH):
        batch = slice(start, start + BATCH)
        stream.add(values[batch], ends[batch])
    return stream.to_bytes(int(ends[-1]) if len(ends) else 0)


def windows(buffer: np.ndarray, width: int) -> np.ndarray:
    """The number that the next four or eight bytes make, for every byte of a buffer.

    Args:
      buffer: uint8 [n].
      width: 32 or 64.

    Returns:
      uint32 or uint64 [n + 1]; behind the end there are zeros.

    Example:
      >>> [hex(number) for number in windows(np.array([1, 2], np.uint8), 32)]
      ['0x1020000', '0x2000000', '0x0']
    """
    length = width // 8
    padded = np.zeros(buffer.size + length, np.uint8)
    padded[: buffer.size] = buffer
    each = np.ndarray((buffer.size + 1,), f">u{length}", padded, strides=(1,))
    return each.astype(f"u{length}")


def read(buffer_windows: np.ndarray, starts: np.ndarray, widths: np.ndarray | int) -> np.ndarray:
    """Fields that begin at any bits.

    Args:
      buffer_windows: uint64, `windows(buffer, 64)`.
      starts: [K] int64 bits; none may lie behind the end of the buffer.
      widths: bits of each field, [K] or one for all, 0..57.

    Returns:
      int64 [K].

    Example:
      >>> stream = windows(np.array([0b01101000], np.uint8), 64)
      >>> read(stream, np.array([1, 3]), 2).tolist()
      [3, 1]
    """
    aligned = buffer_windows[starts >> 3] << (starts & 7).astype(np.uint64)
    # In two steps, because a shift by all 64 bits is not defined.
    rest = np.asarray(63 - widths).astype(np.uint64)
    return ((aligned >> np.uint64(1)) >> rest).astype(np.int64)


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """Numbers of one width, one behind the other.

    Args:
      values: [K] non-negative integers below 2^width.
      width: 0..33.

    Returns:
      uint8 [ceil(K * width / 8)].

    Example:
      >>> np.unpackbits(pack(np.array([5, 1]), 3)).tolist()
      [1, 0, 1, 0, 0, 1, 0, 0]
    """
    if width == 0:
        return np.zeros(0, np.uint8)
    return place(values, width * np.arange(1, len(values) + 1, dtype=np.int64))


def unpack(buffer: np.ndarray, count: int, width: int) -> np.ndarray:
    """`count` numbers of one width from the head of a buffer.

    Args:
      buffer: uint8, at least ceil(count * width / 8).
      count: K.
      width: 0..33.

    Returns:
      int64 [K].

    Example:
      >>> unpack(np.array([0b10100100], np.uint8), 2, 3).tolist()
      [5, 1]
    """
    used = buffer[: -(-count * width // 8)]
    return read(windows(used, 64), width * np.arange(count, dtype=np.int64), width)


def padding_is_zero(buffer: np.ndarray, bits: int) -> bool:
    """Whether the last byte of a section of so many bits is filled up with zeros.

    Example:
      >>> padding_is_zero(np.array([0b10100100], np.uint8), 5)
      False
    """
    spare = -bits % 8
    return spare == 0 or not int(buffer[bits // 8]) & ((1 << spare) - 1)
