"""ADMM pruning: dense weights are pulled towards their own pruned form, then pruned."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import numerics, tree, varying
from sparsetrain.masks import distribution as distributions
from sparsetrain.masks.one_shot import one_shot
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.structure import NOfM, keep_largest, keep_largest_of_all, named


class PullState(NamedTuple):
    """State of `pull_towards_sparse`."""

    step: jax.Array  # int32 scalar
    sparse: dict[str, jax.Array]  # path -> Z
    dual: dict[str, jax.Array]  # path -> U


def pull_towards_sparse(
    density: float,
    *,
    rho: float,
    every: int,
    until: int,
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformation:
    """Adds ADMM's penalty to the gradients: rho (W - Z + U).

        every so many updates:   Z = the largest of W + U, rest zero;    U <- U + W - Z

    Args:
      density, dense, distribution, structure, axis_name: as for `admm`.
      rho: weight of the penalty.
      every: updates between new Z and U; the first are those of the first weights.
      until: updates after which nothing is added.

    Returns:
      A transformation that needs `params` in `update`.

    Reference: Zhang et al., A systematic DNN weight pruning framework using ADMM (arXiv 1804.03294).

    Example:
      >>> params = {"kernel": jnp.array([[1.0, -3.0]])}
      >>> tx = pull_towards_sparse(0.5, rho=0.1, every=10, until=100)
      >>> zero = {"kernel": jnp.zeros((1, 2))}
      >>> tx.update(zero, tx.init(params), params)[0]["kernel"].round(3).tolist()
      [[0.20000000298023224, 0.0]]
    """
    chosen = named(structure)

    def weights(params: Any) -> dict[str, jax.Array]:
        leaves = leaves_by_path(params)
        return {path: leaves[path] for path in prunable(params, dense)}

    def project(sums: dict[str, jax.Array]) -> dict[str, jax.Array]:
        shapes = {path: leaf.shape for path, leaf in sums.items()}
        if distribution == "global":
            size = sum(chosen.units(shape) for shape in shapes.values())
            largest = keep_largest_of_all(sums, chosen, max(1, round(density * size)))
        else:
            counts = distributions.counts(shapes, density, distribution, chosen)
            largest = keep_largest(sums, chosen, jnp.array(counts, jnp.int32))
        return {path: jnp.where(largest[path], leaf, 0) for path, leaf in sums.items()}

    def init_fn(params: Any) -> PullState:
        zeros = {path: jnp.zeros_like(leaf) for path, leaf in weights(params).items()}
        return PullState(jnp.zeros((), jnp.int32), zeros, dict(zeros))

    def update_fn(updates: Any, state: PullState, params: Any = None) -> tuple[Any, PullState]:
        if params is None:
            raise ValueError("admm: call update(grads, state, params), the penalty is of weights")

        def fresh() -> tuple[Any, Any]:
            w = weights(params)
            sparse = project({path: leaf + state.dual[path] for path, leaf in w.items()})
            return sparse, {path: state.dual[path] + w[path] - sparse[path] for path in w}

        is_on = state.step < until
        is_due = is_on & (state.step % every == 0)
        if axis_name is not None:
            is_due = lax.pmax(is_due.astype(jnp.int32), axis_name) > 0
        sparse, dual = varying.cond(is_due, fresh, lambda: (state.sparse, state.dual))

        def pulled(path: Any, g: jax.Array, w: jax.Array) -> jax.Array:
            name = tree.join(path)
            if name not in sparse:
                return g
            return g + jnp.where(is_on, rho * (w - sparse[name] + dual[name]), 0).astype(g.dtype)

        moved = jax.tree_util.tree_map_with_path(pulled, updates, params)
        return moved, PullState(optax.safe_increment(state.step), sparse, dual)

    return optax.GradientTransformation(init_fn, update_fn)


def admm(
    inner: optax.GradientTransformation,
    density: float,
    *,
    end: int,
    rho: float = 1e-3,
    every: int,
    fine_tune: optax.GradientTransformation | None = None,
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Pulls dense weights towards their pruned form, prunes them, and trains on.

        W: minimise f(W) + rho / 2 |W - Z + U|^2;    Z = the largest of W + U;    U <- U + W - Z
        after `end` updates: m = the largest |W|, fixed

    Args:
      inner: the optimizer of the pulled phase.
      density: fraction of weights kept, 0 < density <= 1.
      end: updates before the weights are pruned.
      rho: weight of the penalty; stages of it are several calls in a row.
      every: updates between new Z and U, a few epochs in the reference code.
      fine_tune: optimizer after the pruning; None lets `inner` go on.
      dense: expression of paths that are never masked.
      distribution: "uniform", "erk", "global", or path expression -> density.
      structure: "unstructured", `block(rows, columns)` or `n_m(n, m)`.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks, all ones until `end`; see `grow_and_prune` for its
      place in a chain. It keeps two more copies of the weights.

    Raises:
      ValueError: an argument out of range.

    Reference: Zhang et al. (arXiv 1804.03294), as in GaP's repository.

    Example:
      >>> params = {"kernel": jnp.array([[1.0, -3.0]])}
      >>> tx = admm(optax.sgd(0.1), 0.5, end=2, every=1)
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update({"kernel": jnp.zeros((1, 2))}, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> params["kernel"].tolist()
      [[0.0, -3.0]]
    """
    numerics.check_density(density)
    if end < 1 or every < 1 or not rho > 0.0:
        raise ValueError(f"end={end}, every={every}, rho={rho}: must all be above 0")
    shape = named(structure)
    if distribution == "global" and isinstance(shape, NOfM):
        raise ValueError("distribution='global': n:m masks keep the same density in every layer")
    kind = {
        "dense": dense,
        "distribution": distribution,
        "structure": structure,
        "axis_name": axis_name,
    }
    pull = pull_towards_sparse(density, rho=rho, every=every, until=end, **kind)
    return one_shot(
        optax.chain(pull, optax.with_extra_args_support(inner)),
        density,
        at=end,
        fine_tune=fine_tune,
        **kind,
    )
