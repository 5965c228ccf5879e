"""The optax wrapper that owns the masks: masked weights are exactly zero after every update.

        u = inner(g),    update = u where the mask is one, else -p

Live weights get the inner update untouched; dead ones p + (-p) = 0, exactly, whatever the inner
optimizer wanted. So there is no hook to forget; but the wrapper must come last in a chain, since a
transformation behind it could move dead weights.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import tree
from sparsetrain.masks.partition import leaves_by_path

Masks = Mapping[str, jax.Array]


class MaskState(NamedTuple):
    """State of every transformation of this package."""

    step: jax.Array  # int32 scalar, updates so far
    masks: dict[
        str, jax.Array
    ]  # '/'-joined path -> bool, shaped like the leaf; others are not masked
    inner: Any  # of the optimizer
    fine_tune: Any  # of the optimizer that takes over at the end; () if its state fits into `inner`
    mask_error: jax.Array  # float32 scalar: delta^2 of the latest pruning, see `Change`


class Change(NamedTuple):
    """What a rule makes of the masks at a boundary.

    Attributes:
      masks: path -> bool.
      kept: path -> bool, weights that go on with the value they have; within `masks`.
      weights: path -> values of the other weights that are not masked.
      error: float32 scalar, delta^2 = |w - m w|^2 / |w|^2 over the weights that could be pruned.
    """

    masks: dict[str, jax.Array]
    kept: dict[str, jax.Array]
    weights: dict[str, jax.Array]
    error: jax.Array


class Rule(Protocol):
    """When masks change, and how."""

    @property
    def takes_step(self) -> bool:
        """Whether a change takes the place of that update's optimizer step."""
        ...

    @property
    def restart(self) -> str:
        """What of the optimizer's state starts anew at a change: "all", "grown" weights' entries, or "none"."""
        ...

    def start(self, params: Any) -> dict[str, jax.Array]:
        """First masks."""
        ...

    def used(self, masks: Masks, step: jax.Array) -> dict[str, jax.Array]:
        """Masks of the update after `step` others: those of the state, or more."""
        ...

    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether masks change at the end of update number `step`, counted from 1; bool scalar."""
        ...

    def change(
        self,
        weights: dict[str, jax.Array],
        masks: dict[str, jax.Array],
        gradients: dict[str, jax.Array],
        step: jax.Array,
    ) -> Change:
        """New masks, from the weights after that update and the gradients before masking."""
        ...


class MaskOwner(optax.GradientTransformationExtraArgs):
    """What `own_masks` returns; compact storage needs its parts one by one.

    Attributes:
      rule: when masks change, and how.
      optimizers: those inside: of the phases, and of fine-tuning where that is another.
      mask_gradients: whether they see zeros for masked weights.
      run: (gradients, mask state, params, extra arguments) -> (update, inner, fine_tune) of the one
        whose turn it is; reads no masks.
    """

    rule: Rule
    optimizers: tuple[optax.GradientTransformationExtraArgs, ...]
    mask_gradients: bool
    run: Callable[[Any, MaskState, Any, dict[str, Any]], tuple[Any, Any, Any]]


def own_masks(
    inner: optax.GradientTransformation,
    rule: Rule,
    *,
    fine_tune: optax.GradientTransformation | None = None,
    fine_tune_after: int | None = None,
    mask_gradients: bool = True,
    axis_name: Any = None,
) -> MaskOwner:
    """An optimizer whose weights are masked by a rule.

    Args:
      inner: the optimizer.
      rule: when masks change, and how.
      fine_tune: optimizer after `fine_tune_after` updates; None is `inner` once more, from its start.
      fine_tune_after: updates after which it takes over; None for never.
      mask_gradients: whether the inner optimizer sees zeros for masked weights.
      axis_name: of `vmap` or `shard_map` if this runs inside one: keeps the boundary a branch.

    Returns:
      A transformation that needs `params` in `update`.
    """
    inner = optax.with_extra_args_support(inner)
    later = None if fine_tune is None else optax.with_extra_args_support(fine_tune)

    def init_fn(params: Any) -> MaskState:
        state = inner.init(params)
        spare: Any = ()
        if later is not None and not _alike(inner, later, params):
            spare = later.init(params)
        zero = jnp.zeros((), jnp.int32)
        return MaskState(zero, rule.start(params), state, spare, jnp.zeros((), jnp.float32))

    def restarted(params: Any, step: jax.Array) -> tuple[Any, Any]:
        """(inner, fine_tune) at their start."""
        if later is None or fine_tune_after is None:
            return inner.init(params), ()
        if not _alike(inner, later, params):
            return inner.init(params), later.init(params)
        return lax.cond(step >= fine_tune_after, later.init, inner.init, params), ()

    def run(
        g: Any, state: MaskState, params: Any, extra_args: dict[str, Any]
    ) -> tuple[Any, Any, Any]:
        """(update, inner, fine_tune) of the optimizer whose turn it is."""
        if later is None or fine_tune_after is None:
            return (*inner.update(g, state.inner, params, **extra_args), state.fine_tune)
        shares = _alike(inner, later, params)

        def first(state: MaskState) -> tuple[Any, Any, Any]:
            return (*inner.update(g, state.inner, params, **extra_args), state.fine_tune)

        def second(state: MaskState) -> tuple[Any, Any, Any]:
            held = state.inner if shares else state.fine_tune
            u, held = later.update(g, held, params, **extra_args)
            return (u, held, ()) if shares else (u, state.inner, held)

        return lax.cond(state.step >= fine_tune_after, second, first, state)

    def update_fn(
        updates: Any, state: MaskState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, MaskState]:
        if params is None:
            raise ValueError("masks: call update(grads, state, params), masked weights are undone")
        masks = rule.used(state.masks, state.step)
        g = updates
        if mask_gradients:
            g = _map(lambda leaf, mask: jnp.where(mask, leaf, jnp.zeros_like(leaf)), g, masks)
        u, inner_state, later_state = run(g, state, params, extra_args)
        step = optax.safe_increment(state.step)

        def stay() -> tuple[Any, MaskState]:
            # In the wider dtype of the two, in which p + (-p) is zero.
            kept = _map(lambda move, p, mask: jnp.where(mask, move, -p), u, masks, params)
            return kept, MaskState(step, masks, inner_state, later_state, state.mask_error)

        def change() -> tuple[Any, MaskState]:
            taken = jax.tree.map(jnp.zeros_like, u) if rule.takes_step else u
            target, dense = (
                {path: leaf for path, leaf in leaves_by_path(values).items() if path in masks}
                for values in (optax.apply_updates(params, taken), updates)
            )
            new = rule.change(target, masks, dense, step)
            moves = _moves(taken, params, masks, new)
            held = (state.inner, state.fine_tune) if rule.takes_step else (inner_state, later_state)
            if rule.restart == "all":
                held = restarted(optax.apply_updates(params, moves), step)
            elif rule.restart == "grown":
                grown = _grown(params, masks, new)
                held = tree.map_like(
                    lambda _, node: jax.tree.map(
                        lambda leaf, at: jnp.where(at, jnp.zeros_like(leaf), leaf), node, grown
                    ),
                    held,
                    params,
                )
            # Updates that were not taken have their dtype still.
            moves = jax.tree.map(lambda move, like: move.astype(like.dtype), moves, stay()[0])
            return moves, MaskState(step, new.masks, *held, new.error)

        is_due = rule.is_due(step)
        if axis_name is not None:
            # The same on all workers, and known to be: else vmap turns the branch into a select.
            is_due = lax.pmax(is_due.astype(jnp.int32), axis_name) > 0
        return lax.cond(is_due, change, stay)

    owner = MaskOwner(init_fn, update_fn)
    owner.rule, owner.mask_gradients, owner.run = rule, mask_gradients, run
    owner.optimizers = (inner,) if later is None else (inner, later)
    return owner


def _alike(first: Any, second: Any, params: Any) -> bool:
    """Whether two optimizers' states have the same structure and shapes."""
    one, other = (jax.eval_shape(each.init, params) for each in (first, second))
    structures: list[Any] = [jax.tree.structure(each) for each in (one, other)]
    if structures[0] != structures[1]:
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


def _map(of_leaf: Callable[..., jax.Array], values: Any, masks: Masks, *others: Any) -> Any:
    """Applies (leaf, *other leaves, mask) -> leaf where there is a mask; other leaves stay."""

    def at(path: Any, leaf: jax.Array, *rest: jax.Array) -> jax.Array:
        mask = masks.get(tree.join(path))
        return leaf if mask is None else of_leaf(leaf, *rest, mask)

    return jax.tree_util.tree_map_with_path(at, values, *others)


def _moves(u: Any, params: Any, masks: Masks, new: Change) -> Any:
    """Updates that lead to the weights of a change."""

    def at(path: Any, move: jax.Array, p: jax.Array) -> jax.Array:
        name = tree.join(path)
        if name not in masks:
            return move
        value = jnp.where(new.masks[name], new.weights[name].astype(p.dtype), jnp.zeros_like(p))
        # A weight that was masked is zero, so that its new value is also its update.
        return jnp.where(masks[name] & new.kept[name], move, value - p)

    return jax.tree_util.tree_map_with_path(at, u, params)


def _grown(params: Any, masks: Masks, new: Change) -> Any:
    """Tree of bool arrays like the parameters: weights that start anew."""

    def at(path: Any, leaf: jax.Array) -> jax.Array:
        name = tree.join(path)
        if name not in masks:
            return jnp.zeros(leaf.shape, bool)
        return new.masks[name] & ~(masks[name] & new.kept[name])

    return jax.tree_util.tree_map_with_path(at, params)


def mask_error(before: Masks, after: Masks) -> jax.Array:
    """What pruning takes away: delta^2 of GaP's Proposition 1.

        |w - m w|^2 / |w|^2

    Args:
      before: path -> weights that could be pruned.
      after: path -> their masks.

    Returns:
      float32 scalar; 0 where all weights are zero.

    Example:
      >>> float(mask_error({"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([False, True])})).__round__(4)
      0.36
    """
    squares = {path: jnp.square(leaf.astype(jnp.float32)) for path, leaf in before.items()}
    held = sum(jnp.sum(each) for each in squares.values())
    lost = sum(jnp.sum(jnp.where(after[path], 0.0, each)) for path, each in squares.items())
    return jnp.asarray(lost / jnp.maximum(held, jnp.finfo(jnp.float32).tiny), jnp.float32)


def find(state: Any) -> MaskState:
    """The one mask state inside an optimizer's state.

    Raises:
      ValueError: none, or several.

    Example:
      >>> find((optax.EmptyState(), MaskState(0, {}, (), (), 0.0))).step
      0
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, MaskState))
    found = [node for node in nodes if isinstance(node, MaskState)]
    if len(found) != 1:
        raise ValueError(f"masks: the state holds {len(found)} mask states; it needs exactly one")
    return found[0]


def apply(params: Any, state: Any) -> Any:
    """The parameters with masked weights set to zero: to be called once, before training.

    Args:
      params: tree of parameters.
      state: an optimizer's state with one mask state in it.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: no mask state, or several.

    Example:
      >>> state = MaskState(0, {"w": jnp.array([[True, False]])}, (), (), 0.0)
      >>> apply({"w": jnp.array([[1.0, 2.0]])}, state)["w"].tolist()
      [[1.0, 0.0]]
    """
    return _map(
        lambda leaf, mask: jnp.where(mask, leaf, jnp.zeros_like(leaf)), params, find(state).masks
    )
