"""ADMM pruning: dense weights are pulled towards their own pruned form, then pruned."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import tree, varying
from sparsetrain.masks.iterative import iterative
from sparsetrain.masks.levels import Levels
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.structure import NOfM, named


class PullState(NamedTuple):
    """State of `pull_towards_sparse`."""

    step: jax.Array  # int32 scalar
    sparse: dict[str, jax.Array]  # path -> Z
    dual: dict[str, jax.Array]  # path -> U

    @staticmethod
    def survives_restart() -> tuple[str, ...]:
        """All: a later pull comes when it is due, whatever optimizer began anew before it."""
        return ("step", "sparse", "dual")


def pull_towards_sparse(
    density: float,
    *,
    rho: float,
    every: int,
    until: int,
    begin: int = 0,
    before: Sequence[tuple[int, int, float]] = (),
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformation:
    """Adds ADMM's penalty to the gradients: rho (W - Z + U).

        every so many updates:   Z = the largest of W + U, rest zero;    U <- U + W - Z

    Args:
      density, before, dense, distribution, structure, axis_name: as for `admm`.
      rho: weight of the penalty.
      every: updates between new Z and U; the first are those of the weights as the pull begins.
      until: updates after which nothing is added.
      begin: updates before the pull.

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
    stages = (*before, (begin, until, density))
    levels = Levels(tuple(kept for _, _, kept in stages), distribution, named(structure))

    def weights(params: Any) -> dict[str, jax.Array]:
        leaves = leaves_by_path(params)
        return {path: leaves[path] for path in prunable(params, dense)}

    def init_fn(params: Any) -> PullState:
        zeros = {path: jnp.zeros_like(leaf) for path, leaf in weights(params).items()}
        return PullState(jnp.zeros((), jnp.int32), zeros, dict(zeros))

    def update_fn(updates: Any, state: PullState, params: Any = None) -> tuple[Any, PullState]:
        if params is None:
            raise ValueError("admm: call update(grads, state, params), the penalty is of weights")
        begins, ends, _ = map(jnp.array, zip(*stages, strict=True))
        # The last stage is also what follows it.
        stage = jnp.minimum(jnp.sum(state.step >= ends), len(stages) - 1)
        since = state.step - begins[stage]

        def fresh() -> tuple[Any, Any]:
            w = weights(params)
            # Weights owe nothing to an earlier pull.
            old = {path: jnp.where(since > 0, dual, 0) for path, dual in state.dual.items()}
            sums = {path: leaf + old[path] for path, leaf in w.items()}
            largest = levels.largest(sums, stage)
            sparse = {path: jnp.where(largest[path], leaf, 0) for path, leaf in sums.items()}
            return sparse, {path: sums[path] - sparse[path] for path in w}

        is_on = (since >= 0) & (state.step < ends[stage])
        is_due = is_on & (since % every == 0)
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
    begin: int = 0,
    before: Sequence[tuple[int, int, float]] = (),
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
      inner: the optimizer before the (last) pruning.
      density: fraction of weights kept at the end, 0 < density <= 1.
      end: updates before the weights are pruned for the last time.
      begin: updates before they are pulled towards that; 0 pulls from the first one on.
      before: (begin, end, density) of pulls and prunings before that, in their order.
      rho: weight of the penalty; stages of it are several calls in a row.
      every: updates between new Z and U, a few epochs in the reference code.
      fine_tune: optimizer after the last pruning, and `inner` then begins anew after each one before it; None lets
        `inner` go on.
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
    stages = (*((first, last) for first, last, _ in before), (begin, end))
    # `iterative` checks the rest.
    if every < 1 or not rho > 0.0 or any(not 0 <= first < last for first, last in stages):
        raise ValueError(
            f"begin={begin}, end={end}, every={every}, rho={rho}, before={tuple(before)}: end, every and rho "
            "must be above 0, and every pull must begin before it ends"
        )
    if any(later < last for (_, last), (later, _) in itertools.pairwise(stages)):
        raise ValueError(
            f"before={tuple(before)}, begin={begin}: a pull must begin when the one before it has ended"
        )
    if distribution == "global" and isinstance(named(structure), NOfM):
        raise ValueError("distribution='global': n:m masks keep the same density in every layer")
    kind = {
        "dense": dense,
        "distribution": distribution,
        "structure": structure,
        "axis_name": axis_name,
    }
    pull = pull_towards_sparse(
        density, rho=rho, every=every, until=end, begin=begin, before=before, **kind
    )
    return iterative(
        optax.chain(pull, optax.with_extra_args_support(inner)),
        density,
        at=end,
        before=tuple((last, kept) for _, last, kept in before),
        fine_tune=fine_tune,
        **kind,
    )
