"""The idx format of MNIST and its kin, read by NumPy alone.

A file is `0 0 type rank`, then `rank` sizes as big-endian uint32, then the numbers in row-major
order, big-endian too. The published files are gzipped; unpacked ones are read as well.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sparsetrain.data.dataset import Split

# Third byte of the magic number -> type of the numbers.
DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


class IdxError(ValueError):
    """A file is not what its name says; the message names it and the cure."""


class MagicNumberError(IdxError):
    """The first four bytes are not those of an idx file."""


class TruncatedError(IdxError):
    """The file ends too early, or its gzip stream is damaged."""


class TrailingBytesError(IdxError):
    """There are bytes after the last number that the header announces."""


class MismatchError(IdxError):
    """Images and labels do not belong together: counts, ranks or types differ."""


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads one idx file.

    Args:
      path: the file, gzipped or not; its first bytes tell, not its name.

    Returns:
      Array of the shape and type that the header states, in native byte order.

    Raises:
      MagicNumberError: the file does not start as an idx file does.
      TruncatedError: it ends too early, or is a damaged gzip file.
      TrailingBytesError: it goes on after the last number.
      OSError: it cannot be opened.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
      >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
      >>> read(path)
      array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    content = _unpacked(path)
    if len(content) < 4:
        raise TruncatedError(
            f"{path} ends inside its magic number ({len(content)} bytes of content): fetch it anew"
        )
    dtype = DTYPES.get(content[2])
    if content[:2] != b"\0\0" or dtype is None:
        raise MagicNumberError(
            f"{path} has the magic number 0x{content[:4].hex()}, which no idx file has: "
            "fetch the idx file of that name, gzipped or unpacked"
        )
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise TruncatedError(f"{path} ends inside its header of {start} bytes: fetch it anew")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, offset=4))
    # Python integers: a damaged header may announce more than 64 bits hold.
    expected = math.prod(shape) * dtype.itemsize
    there = len(content) - start
    if there != expected:
        kind, cure = (
            (TruncatedError, "fetch it anew")
            if there < expected
            else (TrailingBytesError, "fetch it anew, nothing may follow the numbers")
        )
        raise kind(
            f"{path} holds {there} bytes of numbers where its header, shape {shape} of "
            f"{dtype.name}, announces {expected}: {cure}"
        )
    numbers = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return numbers.astype(dtype.newbyteorder("="))


def read_pair(images: str | os.PathLike[str], labels: str | os.PathLike[str]) -> Split:
    """Reads the images and the labels of one split and checks that they belong together.

    Args:
      images: file of uint8[N, H, W] or uint8[N, H, W, C].
      labels: file of uint8[N].

    Returns:
      `Split` with images uint8[N, H, W, C], C = 1 if the file has none, and labels int32[N].

    Raises:
      MismatchError: the counts differ, or rank or type is another one.
      IdxError: one of the files is damaged, see `read`.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> _ = (folder / "images").write_bytes(bytes([0, 0, 8, 3, *[0, 0, 0, 1] * 3, 255]))
      >>> _ = (folder / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))
      >>> read_pair(folder / "images", folder / "labels").images.shape
      (1, 1, 1, 1)
    """
    pixels, classes = read(images), read(labels)
    for path, array, ranks in ((images, pixels, (3, 4)), (labels, classes, (1,))):
        if array.ndim not in ranks or array.dtype != np.uint8:
            wanted = " or ".join(map(str, ranks))
            raise MismatchError(
                f"{path} holds {array.dtype.name} of rank {array.ndim} where uint8 of rank "
                f"{wanted} is due: check that images and labels are not exchanged"
            )
    if len(pixels) != len(classes):
        raise MismatchError(
            f"{images} holds {len(pixels)} images and {labels} {len(classes)} labels: "
            "take both files from the same split of the same data set"
        )
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return Split(pixels, classes.astype(np.int32))


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TruncatedError(
            f"{path} is a truncated or damaged gzip file ({str(error).rstrip('.')}): fetch it anew"
        ) from error
