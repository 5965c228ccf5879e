"""Sparse weights on disk: one file that NumPy reads without pickle."""

import contextlib
import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.masks.structure import as_matrix, from_matrix
from sparsetrain.masks.wrapper import find

FORMATS = ("bcsr", "coo", "npz")
_VERSION = 1
_HEAD = ":head"  # Member that says what the others are; no leaf's name begins with a colon.


class Exported(NamedTuple):
    """What an export holds.

    Attributes:
      params: '/'-joined path -> dense NumPy array, zero where masked.
      masks: path -> bool array, of the masked leaves.
    """

    params: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]


def export(params: Any, state: Any, path: str | os.PathLike[str], format: str = "bcsr") -> int:
    """Writes parameters to one file, of masked leaves only what is left of them.

        bcsr   path:data [K], path:indices [K], path:indptr [O + 1]     of the kernel as a matrix [O, H * W * I]
        coo    path:data [K], path:indices [K]                          positions in the flat leaf, row-major
        npz    path:data, path:mask                                     dense, zero where masked; packed bits
        any    path:data                                                leaves that are not masked

    The members are compressed. The file appears whole or not at all.

    Args:
      params: of the model.
      state: an optimizer's state with one mask state in it.
      path: of the file; an existing one is replaced.
      format: "bcsr", whose fields are those of `jax.experimental.sparse.BCSR`; "coo"; or "npz".

    Returns:
      Bytes of the file.

    Raises:
      ValueError: an unknown format, masks that are not shaped like their leaves, or no mask state.

    Example:
      >>> import tempfile
      >>> from jax.experimental import sparse
      >>> from sparsetrain import masks
      >>> params = {"w": jnp.array([[1.0, 0.0, 5.0], [0.0, 3.0, 0.0]])}
      >>> state = masks.MaskState(0, {"w": params["w"] != 0}, (), (), 0.0)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     size = export(params, state, folder + "/model.npz")
      ...     held = np.load(folder + "/model.npz")
      ...     fields = [jnp.asarray(held["w:" + name]) for name in ("data", "indices", "indptr")]
      ...     back = load(folder + "/model.npz")
      >>> sparse.BCSR(tuple(fields), shape=(3, 2)).todense().tolist()                  # [O, I]
      [[1.0, 0.0], [0.0, 3.0], [5.0, 0.0]]
      >>> back.params["w"].tolist(), back.masks["w"].astype(int).tolist()
      ([[1.0, 0.0, 5.0], [0.0, 3.0, 0.0]], [[1, 0, 1], [0, 1, 0]])
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: choose one of {FORMATS}")
    masks = find(state).masks
    leaves: dict[str, dict[str, Any]] = {}
    members: dict[str, np.ndarray] = {}
    for name, leaf in leaves_by_path(params).items():
        values = np.asarray(leaf)
        stored = _plain(values)
        mask = None if name not in masks else np.asarray(masks[name])
        if mask is not None and mask.shape != values.shape:
            raise ValueError(
                f"state: the mask of {name} has shape {mask.shape}, the leaf {values.shape}; "
                "of stacked workers, export one"
            )
        fields = {"data": stored} if mask is None else _fields(stored, mask, format)
        members |= {f"{name}:{field}": array for field, array in fields.items()}
        leaves[name] = {
            "shape": values.shape,
            "dtype": values.dtype.name,
            "format": None if mask is None else format,
        }
    head = json.dumps({"version": _VERSION, "leaves": leaves})
    members[_HEAD] = np.frombuffer(head.encode(), np.uint8)
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            # Of the keyword arguments, one could be called "file".
            _write(file, members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return target.stat().st_size


def load(path: str | os.PathLike[str]) -> Exported:
    """Reads what `export` wrote, to the bit.

    Args:
      path: of the file.

    Returns:
      `Exported`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an export, one of a later version, or a damaged one.
    """
    damage = (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        EOFError,
        NotImplementedError,
        OSError,
    )
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as members:
                head = json.loads(members[_HEAD].tobytes())
                if head["version"] == _VERSION:
                    return _read(members, head["leaves"])
        except damage as error:
            raise ValueError(
                f"{os.fspath(path)} is not a whole export of masks "
                f"({type(error).__name__}: {error}); export it again"
            ) from error
    raise ValueError(
        f"{os.fspath(path)} has version {head['version']}; this sparsetrain reads {_VERSION}"
    )


def _write(file: Any, members: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read(members: Any, leaves: dict[str, Any]) -> Exported:
    params, masks = {}, {}
    for name, leaf in leaves.items():
        shape, dtype, format = tuple(leaf["shape"]), jnp.dtype(leaf["dtype"]), leaf["format"]
        stored = members[f"{name}:data"]
        if format is not None:
            masks[name] = _mask(members, name, shape, format)
            if format != "npz":
                stored = _scatter(stored, masks[name], format)
        elif stored.shape != shape:
            raise ValueError(f"{name} has shape {stored.shape} for {shape}")
        params[name] = stored.view(dtype)
    return Exported(params, masks)


def _plain(values: np.ndarray) -> np.ndarray:
    """Dtypes that NumPy does not know, such as bfloat16, as unsigned integers of their width."""
    return values if values.dtype.isbuiltin else values.view(f"u{values.dtype.itemsize}")


def _fields(stored: np.ndarray, mask: np.ndarray, format: str) -> dict[str, np.ndarray]:
    """Members of one masked leaf."""
    if format == "npz":
        zeros = np.zeros((), stored.dtype)
        return {"data": np.where(mask, stored, zeros), "mask": np.packbits(mask)}
    if format == "coo":
        (at,) = np.nonzero(mask.reshape(-1))
        return {"data": stored.reshape(-1)[at], "indices": at.astype(_index_dtype(mask.size))}
    matrix = as_matrix(mask)
    rows, columns = np.nonzero(matrix)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=matrix.shape[0]))])
    return {
        "data": as_matrix(stored)[rows, columns],
        "indices": columns.astype(np.int32),
        "indptr": ends.astype(_index_dtype(mask.size)),
    }


def _index_dtype(size: int) -> type[np.signedinteger]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _mask(members: Any, name: str, shape: tuple[int, ...], format: str) -> np.ndarray:
    size = math.prod(shape)
    if format == "npz":
        return np.unpackbits(members[f"{name}:mask"], count=size).astype(bool).reshape(shape)
    at = members[f"{name}:indices"].astype(np.int64)
    if format == "coo":
        flat = np.zeros(size, bool)
        flat[at] = True
        return flat.reshape(shape)
    matrix = np.zeros((shape[-1], size // max(1, shape[-1])), bool)
    matrix[np.repeat(np.arange(shape[-1]), np.diff(members[f"{name}:indptr"])), at] = True
    return np.moveaxis(matrix.reshape(shape[-1], *shape[:-1]), 0, -1)


def _scatter(stored: np.ndarray, mask: np.ndarray, format: str) -> np.ndarray:
    """Values in the order of the format, put back where the mask is one."""
    whole = np.zeros(mask.shape, stored.dtype)
    if format == "coo":
        whole[mask] = stored
        return whole
    matrix = np.zeros(as_matrix(mask).shape, stored.dtype)
    matrix[as_matrix(mask)] = stored
    return np.ascontiguousarray(from_matrix(matrix, mask.shape))
