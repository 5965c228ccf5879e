"""What workers hold, and which of it differs between them: read off the types that a step gives it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from sparsetrain import tree, varying
from sparsetrain.compress.ledger import Ledger
from sparsetrain.compress.local_steps import LocalStepsState


class Trained(NamedTuple):
    """Parameters and optimizer state; what differs between workers has a leading axis [W], sharded."""

    params: Any
    opt_state: Any
    variables: Any = ()  # other collections, such as {"batch_stats": ...}: each worker has its own


def which_differ(
    tx: optax.GradientTransformation,
    params: Any,
    mesh: Mesh,
    names: tuple[str, ...],
    *,
    apart: bool = False,
) -> Trained:
    """Which leaves differ between workers after any number of steps.

    Args:
      tx: any optax chain.
      params: tree of arrays, or of their shapes.
      mesh: of the workers.
      names: its axes along which they stand.
      apart: whether parameters may.

    Returns:
      `Trained` of bools, without variables.

    Raises:
      ValueError: workers would drift apart, see `data_parallel`.

    Example:
      >>> from sparsetrain import compress, runtime
      >>> tx = compress.exchange(compress.top_k(0.5), axis_name="workers")
      >>> mesh = runtime.worker_mesh(jax.devices()[:1])
      >>> found = which_differ(tx, jnp.ones(2), mesh, ("workers",))
      >>> found.params, found.opt_state.memory.residual
      (False, True)
    """
    example = jax.eval_shape(lambda p: Trained(p, tx.init(p)), params)
    # Every worker keeps its own accounts, even where all send alike.
    differs = jax.tree.map(
        lambda node: jax.tree.map(lambda _: isinstance(node, Ledger), node),
        example,
        is_leaf=lambda node: isinstance(node, Ledger),
    )
    known = None
    while differs != known:
        # What differs makes other things differ at the next step.
        known = differs
        seen = _types_after(tx, known, example, mesh, names)
        differs = jax.tree.map(lambda a, b: a or b, known, seen)
    has_anchor = bool(tree.nodes(LocalStepsState, example.opt_state))
    if any(jax.tree.leaves(differs.params)) and not (apart or has_anchor):
        raise ValueError(
            f"tx: leaves every worker of the mesh axes {names} its own parameters; exchange "
            "gradients with compress.exchange(..., axis_name=...), or say apart=True"
        )
    return differs


def _types_after(
    tx: optax.GradientTransformation,
    differs: Trained,
    example: Trained,
    mesh: Mesh,
    names: tuple[str, ...],
) -> Trained:
    seen: list[Trained] = []
    axes = frozenset(names)

    def look(held: Trained) -> jax.Array:
        held = jax.tree.map(
            lambda own, leaf: varying.over(axes, leaf) if own else leaf, differs, held
        )
        # Of the gradients no more matters here than that they differ.
        updates, state = tx.update(varying.over(axes, held.params), held.opt_state, held.params)
        after = Trained(optax.apply_updates(held.params, updates), state)
        seen.append(jax.tree.map(lambda leaf: bool(varying.axes_of(leaf)), after))
        return jnp.zeros(())

    jax.eval_shape(jax.shard_map(look, mesh=mesh, in_specs=P(), out_specs=P()), example)
    return seen[-1]
