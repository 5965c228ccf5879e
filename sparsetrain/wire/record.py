"""What a record is made of: sections that each begin at a whole byte, and a cursor that reads them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sparsetrain.payload import Payload
from sparsetrain.wire import values
from sparsetrain.wire.bit_fields import padding_is_zero
from sparsetrain.wire.error import WireError

# Means, norms, scales and factors travel as this, whatever their dtype: what the papers count.
SCALAR = np.dtype(np.float32)


class Section(NamedTuple):
    """A part of a record.

    Attributes:
      body: whole bytes.
      bits: of them that say something; the others are padding.
    """

    body: bytes
    bits: int


class Cursor:
    """Reads a message from the front and never beyond its end."""

    def __init__(self, body: memoryview):
        self._rest = body

    def take(self, size: int) -> memoryview:
        """The next bytes.

        Raises:
          WireError: fewer are left.
        """
        if size > len(self._rest):
            raise WireError(f"{size} bytes are due and {len(self._rest)} left: the message is cut")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def take_bits(self, bits: int) -> memoryview:
        """The next section of so many bits, which zeros fill up to whole bytes."""
        taken = self.take(-(-bits // 8))
        if bits % 8 and not padding_is_zero(np.frombuffer(taken, np.uint8), bits):
            raise WireError("padding that is not zero: the message is damaged or forged")
        return taken

    def rest(self) -> memoryview:
        """All that is left; nothing is taken."""
        return self._rest


class Record(NamedTuple):
    """How one kind of payload is written and read.

    Attributes:
      write: (payload of NumPy arrays, code of levels) -> name -> section.
      read: (payload of shapes, cursor, code of levels) -> payload of NumPy arrays.
      check: raises ValueError about a payload of shapes that says too little to read by.
    """

    write: Callable[[Any, str], dict[str, Section]]
    read: Callable[[Any, Cursor, str], Payload]
    check: Callable[[Any], None] = lambda like: None


def floats(array: Any, dtype: Any = None) -> Section:
    """All numbers of an array, in its own dtype or in another."""
    body = values.encode_floats(array, dtype)
    return Section(body, 8 * len(body))


def take_floats(like: Any, cursor: Cursor, sent_as: Any = None, count: int | None = None) -> Any:
    """An array as `like`, or its first `count` numbers and zeros behind them."""
    size = math.prod(like.shape) if count is None else count
    wire = np.dtype(like.dtype if sent_as is None else sent_as)
    shape = like.shape if count is None else (count,)
    taken = values.decode_floats(cursor.take(size * wire.itemsize), shape, like.dtype, sent_as)
    return taken if count is None else filled(taken, like)


def filled(used: np.ndarray, like: Any) -> np.ndarray:
    """An array as `like` that begins with what is given and ends with zeros."""
    slots = np.zeros(like.shape, like.dtype)
    slots[: used.size] = used
    return slots
