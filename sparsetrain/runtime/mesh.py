"""Devices as workers."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh


def worker_mesh(
    devices: Sequence[Any] | None = None, *, partitions: int | None = None, explicit: bool = False
) -> Mesh:
    """A mesh in which every device is a worker.

    Args:
      devices: None for all devices of all processes, in JAX's order.
      partitions: kappa of P-GaP; adds an axis "partition" of that length, so that the workers of one
        partition train it together. None for the axis "workers" alone.
      explicit: whether shardings are part of types (`AxisType.Explicit`); by default the compiler
        places what is not under `shard_map`.

    Returns:
      Axes ("workers",) or ("workers", "partition").

    Raises:
      ValueError: the devices do not divide into partitions.

    Example:
      >>> dict(worker_mesh(jax.devices()[:1]).shape)
      {'workers': 1}
    """
    found = list(jax.devices() if devices is None else devices)
    kind = AxisType.Explicit if explicit else AxisType.Auto
    if partitions is None:
        return Mesh(np.array(found), ("workers",), axis_types=(kind,))
    if partitions < 1 or len(found) % partitions:
        raise ValueError(
            f"partitions={partitions}: must divide the number of devices, {len(found)}; "
            "give as many devices a partition as there are workers in each"
        )
    grid = np.array(found).reshape(-1, partitions)
    return Mesh(grid, ("workers", "partition"), axis_types=(kind, kind))
