"""What is masked, as a table."""

from typing import Any

import numpy as np

from sparsetrain.masks.partition import Partitions, leaves_by_path
from sparsetrain.masks.wrapper import find


def summary(params: Any, state: Any, partitions: Partitions | None = None) -> str:
    """A line for every masked leaf: shape, density, partition, and whether it is dense now.

    Args:
      params: of the model.
      state: an optimizer's state with one mask state in it.
      partitions: names the partition of each leaf; None leaves that column out.

    Returns:
      Text of several lines, the last one the sum over all parameters.

    Raises:
      ValueError: no mask state, or several.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain.masks.wrapper import MaskState
      >>> state = MaskState(0, {"w": jnp.array([[True, False]])}, (), (), 0.0)
      >>> print(summary({"b": jnp.ones(2), "w": jnp.ones((1, 2))}, state))
      leaf        shape       entries  density  dense now
      w           1x2               2    0.500  no
      not masked                    2    1.000  yes
      all                           4    0.750
    """
    masks = find(state).masks
    leaves = leaves_by_path(params)
    rows = []
    for path, mask in masks.items():
        active = int(np.sum(np.asarray(mask)))
        owner = partitions.owners(path)[0] if partitions is not None else ""
        shape = "x".join(map(str, mask.shape))
        rows.append((path, shape, mask.size, active, owner))
    others = sum(leaf.size for path, leaf in leaves.items() if path not in masks)
    total = others + sum(row[2] for row in rows)
    kept = others + sum(row[3] for row in rows)
    width = max(len("not masked"), *(len(row[0]) for row in rows))
    named = "" if partitions is None else f"{'partition':12s} "
    lines = [f"{'leaf':{width}s}  {'shape':10s}{'entries':>9s}  {'density':>7s}  {named}dense now"]
    for path, shape, size, active, owner in rows:
        column = "" if partitions is None else f"{owner:12s} "
        is_dense = "yes" if active == size else "no"
        lines.append(
            f"{path:{width}s}  {shape:10s}{size:9,d}  {active / size:7.3f}  {column}{is_dense}"
        )
    column = "" if partitions is None else " " * 13
    if others:
        lines.append(f"{'not masked':{width}s}  {'':10s}{others:9,d}  {1:7.3f}  {column}yes")
    lines.append(f"{'all':{width}s}  {'':10s}{total:9,d}  {kept / total:7.3f}")
    return "\n".join(lines)
