"""Where the files of a data set lie, and what is in them, unpacked and whole."""

import gzip
import os
import zlib
from pathlib import Path
from typing import Any


class DamagedError(ValueError):
    """A file is cut short or not what its name says; the message names it and the cure."""


def folder_of(name: str, path: str | os.PathLike[str] | None = None) -> Path:
    """Folder of a data set: the path given, else `$SPARSETRAIN_DATA/<name>`.

    Args:
      name: of the data set.
      path: its folder, or None.

    Returns:
      A folder that exists.

    Raises:
      FileNotFoundError: it does not, or neither path nor variable say where.

    Example:
      >>> folder_of("bccd", "nowhere")
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere is not a folder: give the one with the files of 'bccd'
    """
    root = os.environ.get("SPARSETRAIN_DATA")
    if path is None and not root:
        raise FileNotFoundError(
            f"where is the data set {name!r}? Give its folder, or set $SPARSETRAIN_DATA to the folder "
            f"that holds {name}/"
        )
    folder = (Path(path) if path is not None else Path(root or "") / name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder: give the one with the files of {name!r}"
        )
    return folder


def find(folder: Path, name: str) -> Path:
    """A file of a folder, packed or not.

    Args:
      folder: where to look.
      name: of the file; with ".gz" at its end, or without, it may be there either way.

    Returns:
      Its path.

    Raises:
      FileNotFoundError: neither is there.

    Example:
      >>> find(Path("nowhere"), "train.txt")
      Traceback (most recent call last):
          ...
      FileNotFoundError: nowhere holds no train.txt (nor train.txt.gz): put the file there
    """
    plain = name.removesuffix(".gz")
    for path in (folder / plain, folder / f"{plain}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} holds no {plain} (nor {plain}.gz): put the file there")


def content(path: Path) -> bytes:
    """What is in a file; its first bytes tell whether it is gzipped, not its name.

    Args:
      path: the file.

    Returns:
      Its bytes, unpacked.

    Raises:
      DamagedError: the gzip stream is.
      OSError: the file cannot be opened.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "a.txt"
      >>> _ = path.write_bytes(gzip.compress(b"some text"))
      >>> content(path)
      b'some text'
      >>> _ = path.write_bytes(gzip.compress(b"some text")[:-9])
      >>> content(path)               # doctest: +IGNORE_EXCEPTION_DETAIL
      Traceback (most recent call last):
          ...
      DamagedError: a.txt is a truncated or damaged gzip file: fetch it anew
    """
    packed = path.read_bytes()
    if not packed.startswith(b"\x1f\x8b"):
        return packed
    try:
        return gzip.decompress(packed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedError(
            f"{path} is a truncated or damaged gzip file ({str(error).rstrip('.')}): fetch it anew"
        ) from error


def lines(path: Path, encoding: str = "utf-8", closed: bool = True) -> list[str]:
    r"""Lines of a text file.

    Only "\n" ends a line: captions and reviews hold characters that `str.splitlines` takes for ends.

    Args:
      path: the file, gzipped or not.
      encoding: of its characters.
      closed: whether a last line without "\n" means that the file was cut.

    Returns:
      The lines, without their ends.

    Raises:
      DamagedError: the file is empty, cut, or in another encoding.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "a.txt"
      >>> _ = path.write_bytes(b"one\x85\ntwo\n")
      >>> lines(path, "latin-1")
      ['one\x85', 'two']
    """
    unpacked = content(path)
    try:
        text = unpacked.decode(encoding)
    except UnicodeDecodeError as error:
        raise DamagedError(
            f"{path} is not {encoding} text at byte {error.start}: fetch it anew, do not convert it"
        ) from error
    if not text:
        raise DamagedError(f"{path} is empty: fetch it anew")
    if closed and not text.endswith("\n"):
        raise DamagedError(f"{path} ends inside its last line, so it was cut: fetch it anew")
    return text.removesuffix("\n").split("\n")


def pillow(name: str) -> Any:
    """`PIL.Image`, which is imported by those alone who read pictures.

    Args:
      name: of the data set.

    Raises:
      ImportError: Pillow is absent; says how it is installed.

    Example:
      >>> pillow("bccd").__name__
      'PIL.Image'
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"the data set {name!r} needs Pillow: pip install 'sparsetrain[train]'"
        ) from error
    return Image
