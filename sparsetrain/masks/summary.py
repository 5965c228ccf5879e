"""What is masked, as a table."""

from typing import Any

import numpy as np

from sparsetrain.masks.flops import Flops
from sparsetrain.masks.partition import Partitions, leaves_by_path
from sparsetrain.masks.wrapper import find


def summary(
    params: Any, state: Any, partitions: Partitions | None = None, flops: Flops | None = None
) -> str:
    """A line for every masked leaf: shape, density, partition, operations, and whether it is dense now.

    Args:
      params: of the model.
      state: an optimizer's state with one mask state in it.
      partitions: names the partition of each leaf; None leaves that column out.
      flops: of `masks.flops`, in operations of a forward pass: dense, and of what is not masked; None
        leaves those columns out.

    Returns:
      Text of several lines, the last one the sum over all parameters.

    Raises:
      ValueError: no mask state, or several.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain import masks
      >>> state = masks.MaskState(0, {"w": jnp.array([[True, False]])}, (), (), 0.0)
      >>> params = {"b": jnp.ones(2), "w": jnp.ones((1, 2))}
      >>> print(summary(params, state))
      leaf        shape       entries  density  dense now
      w           1x2               2    0.500  no
      not masked                    2    1.000  yes
      all                           4    0.750
      >>> counted = masks.flops(lambda p, x: x @ p["w"], params, jnp.ones((1, 1)))
      >>> print(summary(params, state, flops=counted))
      leaf        shape       entries  density         FLOPs        sparse  dense now
      w           1x2               2    0.500             4             2  no
      not masked                    2    1.000             0             0  yes
      all                           4    0.750             4             2
    """
    masks = find(state).masks
    leaves = leaves_by_path(params)
    counts = {} if flops is None else flops.by_leaf
    active = {path: int(np.sum(np.asarray(mask))) for path, mask in masks.items()}
    width = max(len("not masked"), *(len(path) for path in masks))

    def line(
        name: str, shape: str, entries: Any, density: Any, owner: str, operations: Any, dense: str
    ) -> str:
        columns = [f"{name:{width}s}  {shape:10s}{entries:>9s}  {density:>7s} "]
        if partitions is not None:
            columns.append(f"{owner:12s}")
        if flops is not None:
            columns.append("{:>13s} {:>13s} ".format(*operations))
        return " ".join([*columns, dense]).rstrip()

    def row(
        name: str, shape: str, size: int, kept: int, owner: str, count: float, dense: str
    ) -> str:
        operations = f"{count:,.0f}", f"{count * kept / size:,.0f}"
        return line(name, shape, f"{size:,d}", f"{kept / size:.3f}", owner, operations, dense)

    lines = [
        line("leaf", "shape", "entries", "density", "partition", ("FLOPs", "sparse"), "dense now")
    ]
    for path, mask in masks.items():
        owner = partitions.owners(path)[0] if partitions is not None else ""
        shape, dense = "x".join(map(str, mask.shape)), "yes" if active[path] == mask.size else "no"
        lines.append(row(path, shape, mask.size, active[path], owner, counts.get(path, 0), dense))
    others = sum(leaf.size for path, leaf in leaves.items() if path not in masks)
    if others:
        rest = 0 if flops is None else flops.dense - sum(counts.get(path, 0) for path in masks)
        lines.append(row("not masked", "", others, others, "", rest, "yes"))
    total = others + sum(mask.size for mask in masks.values())
    density = f"{(others + sum(active.values())) / total:.3f}"
    operations = "", ""
    if flops is not None:
        left = flops.sparse({path: active[path] / mask.size for path, mask in masks.items()})
        operations = f"{flops.dense:,d}", f"{left:,.0f}"
    lines.append(line("all", "", f"{total:,d}", density, "", operations, ""))
    return "\n".join(lines)
