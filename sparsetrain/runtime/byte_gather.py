"""Bytes of every worker on every worker: the collective under messages of different lengths."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.experimental import multihost_utils

# Lengths travel as this, before the messages.
LENGTH = np.dtype(np.uint32)


class Gathered(NamedTuple):
    """What a worker has after an exchange.

    Attributes:
      messages: of all workers, in their order: process by process.
      carried: bytes that the collective carried for each of them, length and padding included.
    """

    messages: list[bytes]
    carried: int


def gather_bytes(messages: Sequence[bytes]) -> Gathered:
    """All messages of all processes, by two all-gathers: lengths, then bytes padded to the longest.

        carried = 4 + slot,    slot = longest message, rounded up as by `slot_bytes`

    Args:
      messages: of this process's workers, in their order; as many in every process.

    Returns:
      `Gathered`. If every message is empty, there is no second all-gather.

    Raises:
      ValueError: a message of 2 GiB or more, which no array of bytes is made for.

    Example:
      >>> gather_bytes([b"abc", b""])
      Gathered(messages=[b'abc', b''], carried=7)
    """
    lengths = np.array([len(message) for message in messages], LENGTH)
    if lengths.max(initial=0) >= 2**31:
        raise ValueError(f"messages: one of {lengths.max()} bytes; split the tree or send less")
    # [W]; with one process alone JAX adds no axis of processes.
    all_lengths = np.asarray(multihost_utils.process_allgather(lengths)).reshape(-1)
    slot = slot_bytes(int(all_lengths.max(initial=0)))
    if not slot:
        return Gathered([b""] * all_lengths.size, LENGTH.itemsize)
    padded = np.zeros((len(messages), slot), np.uint8)
    for row, message in zip(padded, messages, strict=True):
        row[: len(message)] = np.frombuffer(message, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(-1, slot)
    found = [row[:length].tobytes() for row, length in zip(rows, all_lengths, strict=True)]
    return Gathered(found, LENGTH.itemsize + slot)


def slot_bytes(longest: int) -> int:
    """Room for a message: its length, rounded up to one of eight sizes between powers of two.

    Lengths differ from round to round, and every new shape is a program that XLA compiles. So there
    are few, at the price of at most an eighth more bytes.

    Args:
      longest: bytes of the longest message.

    Returns:
      Bytes.

    Example:
      >>> [slot_bytes(longest) for longest in (0, 7, 28, 1000, 1024, 1025)]
      [0, 7, 28, 1024, 1024, 1152]
    """
    unit = 1 << max(0, (longest - 1).bit_length() - 4)
    return -(-longest // unit) * unit
