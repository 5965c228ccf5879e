"""Parallel grow-and-prune (P-GaP): every worker trains another partition dense, then all are put together."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import tree
from sparsetrain.masks.partition import Partitions
from sparsetrain.masks.wrapper import MaskState


def combine(variables: Any, state: Any, partitions: Partitions, axis_name: Any) -> tuple[Any, Any]:
    """Takes every partition from the worker that trained it dense.

        Theta_i <- Theta_i of worker i,    m_i <- m_i of worker i

    To be called inside `vmap` or `shard_map`, after each round of `grow_and_prune(...,
    order="parallel")`, when every worker has pruned its own partition.

    Args:
      variables: parameters, or a dictionary of collections such as {"params", "batch_stats"}: biases,
        norms and running statistics go with their partition.
      state: the optimizer's state, with one mask state in it; moments go with their partition.
      partitions: those of the wrapper, as many as workers; every path must belong to one.
      axis_name: of the workers.

    Returns:
      (variables, state), the same on all workers.

    Raises:
      ValueError: another number of workers than of partitions, or a leaf in no or several
        partitions.

    Differs from the paper:
      1. Running statistics come from their owner too; its code does not copy them.

    Reference: Ma et al., GaP (arXiv 2106.09857), Algorithm 2.

    Example:
      >>> from sparsetrain import masks
      >>> parts = masks.partitions({"first": r"a.*", "second": r"b.*"})
      >>> empty = MaskState(jnp.zeros(2), {}, (), (), jnp.zeros(2))
      >>> workers = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])}      # two workers
      >>> together = jax.vmap(lambda v, s: combine(v, s, parts, "w"), axis_name="w")(workers, empty)[0]
      >>> together["a"].tolist(), together["b"].tolist()
      ([1.0, 1.0], [4.0, 4.0])
    """
    workers = lax.axis_size(axis_name)
    if workers != len(partitions.names):
        raise ValueError(
            f"partitions: {len(partitions.names)} for {workers} workers; give each worker one"
        )
    here = lax.axis_index(axis_name)

    def owner(path: str) -> int:
        # The rules name parameters; collections stand before them.
        for name in (path, path.partition("/")[2]):
            found = partitions.owners(name)
            if len(found) == 1:
                return partitions.names.index(found[0])
            if found:
                break
        raise ValueError(
            f"partitions: {path} is in {found or 'none'}; to be combined, every leaf belongs to one"
        )

    def taken(path: str, leaf: jax.Array) -> jax.Array:
        mine = jnp.where(here == owner(path), leaf, jnp.zeros_like(leaf))
        if leaf.dtype == bool:
            return lax.psum(mine.astype(jnp.int32), axis_name) > 0
        return lax.psum(mine, axis_name).astype(leaf.dtype)

    def whole(values: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: taken(tree.join(path), leaf), values
        )

    params = variables.get("params", variables) if isinstance(variables, dict) else variables

    def of_mask_state(node: Any) -> Any:
        if not isinstance(node, MaskState):
            return node
        return node._replace(masks={path: taken(path, mask) for path, mask in node.masks.items()})

    state = jax.tree.map(of_mask_state, state, is_leaf=lambda node: isinstance(node, MaskState))
    return whole(variables), tree.map_leaves_like(taken, state, params)
