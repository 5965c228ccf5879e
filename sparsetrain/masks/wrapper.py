"""The optax wrapper that owns the masks: masked weights are exactly zero after every update.

        u = inner(g),    update = u where the mask is one, else -p

Live weights get the inner update untouched; dead ones p + (-p) = 0, exactly, whatever the inner
optimizer wanted. So there is no hook to forget; but the wrapper must come last in a chain, since a
transformation behind it could move dead weights.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import tree
from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.masks.take_over import take_over

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
    memory: Any = ()  # what the rule remembers beside the masks, if anything


class Change(NamedTuple):
    """What a rule makes of the masks at a boundary.

    Attributes:
      masks: path -> bool.
      error: float32 scalar, delta^2 = |w - m w|^2 / |w|^2 over the weights that could be pruned.
      kept: path -> bool, weights that go on with the value they have; None for all that were live and
        still are. Looked at where the rule `regrows`.
      weights: path -> values of the live weights that were not kept; None for zeros. Looked at where
        the rule `sows`.
      memory: what the rule remembers from now on; like `Rule.remember`'s.
    """

    masks: dict[str, jax.Array]
    error: jax.Array
    kept: dict[str, jax.Array] | None = None
    weights: dict[str, jax.Array] | None = None
    memory: Any = ()


class Rule(abc.ABC):
    """When masks change, and how.

    Attributes:
      takes_step: whether a change takes the place of that update's optimizer step.
      restart: what of the optimizer's state starts anew at a change: "all", "grown" weights' entries, or
        "none".
      regrows: whether a live weight may be dropped and grown anew in one change.
      sows: whether weights may get other values than zero or their own in a change.
      has_shadows: whether masked weights keep their values, for `forward_params` to hide.
    """

    takes_step: bool = False
    restart: str = "none"
    regrows: bool = False
    sows: bool = False
    has_shadows: bool = False

    @abc.abstractmethod
    def start(self, params: Any) -> dict[str, jax.Array]:
        """First masks."""

    def remember(self, params: Any, masks: Masks) -> Any:
        """What is remembered beside the masks, at first; arrays of fixed shapes."""
        del params, masks
        return ()

    def used(self, masks: Masks, step: jax.Array) -> dict[str, jax.Array]:
        """Masks of the update after `step` others: those of the state, or more."""
        del step
        return dict(masks)

    @abc.abstractmethod
    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether masks change at the end of update number `step`, counted from 1; bool scalar."""

    @abc.abstractmethod
    def change(
        self,
        weights: dict[str, jax.Array],
        masks: dict[str, jax.Array],
        gradients: dict[str, jax.Array],
        step: jax.Array,
        memory: Any,
    ) -> Change:
        """New masks, from the weights after that update and the gradients before masking."""


class MaskOwner(optax.GradientTransformationExtraArgs):
    """What `own_masks` returns; compact storage needs its parts one by one.

    Attributes:
      rule: when masks change, and how.
      optimizers: those inside: of the phases, and of fine-tuning where that is another.
      mask_gradients: whether they see zeros for masked weights.
      run: (gradients, mask state, params, extra arguments) -> (update, (inner, fine_tune)) of the one
        whose turn it is; gradients of masked weights are zeros already.
    """

    rule: Rule
    optimizers: tuple[optax.GradientTransformationExtraArgs, ...]
    mask_gradients: bool
    run: Callable[[Any, MaskState, Any, dict[str, Any]], tuple[Any, tuple[Any, Any]]]


def own_masks(
    inner: optax.GradientTransformation,
    rule: Rule,
    *,
    fine_tune: optax.GradientTransformation | None = None,
    fine_tune_after: int = 0,
    mask_gradients: bool = True,
    axis_name: Any = None,
) -> MaskOwner:
    """An optimizer whose weights are masked by a rule.

    Args:
      inner: the optimizer.
      rule: when masks change, and how.
      fine_tune: optimizer after `fine_tune_after` updates; None is `inner` once more, from its start.
      fine_tune_after: updates after which it takes over.
      mask_gradients: whether the inner optimizer sees zeros for masked weights.
      axis_name: of `vmap` or `shard_map` if this runs inside one: keeps the boundary a branch.

    Returns:
      A transformation that needs `params` in `update`.
    """
    turns = take_over(inner, fine_tune, fine_tune_after)

    def init_fn(params: Any) -> MaskState:
        masks = rule.start(params)
        error, step = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
        return MaskState(step, masks, *turns.init(params), error, rule.remember(params, masks))

    def begun(params: Any, state: MaskState) -> tuple[Any, Any]:
        """(inner, fine_tune) as an update finds them: what a change has to forget is forgotten here.

        Not at the change itself: there the optimizer's new state would be one thing, and what its
        update is made of another, and every moment would be read twice and copied.
        """
        held = (state.inner, state.fine_tune)
        if rule.restart == "all":
            follows = rule.is_due(state.step) & (state.step > 0)
            fresh = turns.fresh(params, state.step)
            return jax.tree.map(lambda a, b: jnp.where(follows, a, b), fresh, held)
        if rule.restart == "grown":
            # A dead weight's moments are zero, so that a grown one begins with zeros.
            def alive(path: str, leaf: jax.Array) -> jax.Array:
                mask = state.masks.get(path)
                return leaf if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf))

            return tree.map_leaves_like(alive, held, params)
        return held

    def run(
        g: Any, state: MaskState, params: Any, extra_args: dict[str, Any]
    ) -> tuple[Any, tuple[Any, Any]]:
        """(update, (inner, fine_tune)) of the optimizer whose turn it is."""
        return turns.update(g, begun(params, state), params, state.step, extra_args)

    def masked(updates: Any, state: MaskState) -> Any:
        """Gradients as that optimizer sees them."""
        return (
            _zero_dead(updates, rule.used(state.masks, state.step)) if mask_gradients else updates
        )

    def update_fn(
        updates: Any, state: MaskState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, MaskState]:
        if params is None:
            raise ValueError("masks: call update(grads, state, params), masked weights are undone")
        if missing := sorted(state.masks.keys() - leaves_by_path(params).keys()):
            raise ValueError(
                f"masks: no parameter {', '.join(missing)} as there was at init; give the same tree"
            )
        step = optax.safe_increment(state.step)
        masks = rule.used(state.masks, state.step)

        # Only masks pass through the branch. What touches weights and moments stays outside, in one
        # pass with the optimizer; and the branch computes for itself what it reads, since an operand
        # that is not yet in memory would have to be written there at every update.
        def stay() -> tuple[Change, bool]:
            same = rule.used(state.masks, state.step)
            leaves = leaves_by_path(params)
            weights = {path: leaves[path] for path in same} if rule.sows else None
            kept = same if rule.regrows else None
            return Change(same, state.mask_error, kept, weights, state.memory), False

        def change() -> tuple[Change, bool]:
            target = params
            if not rule.takes_step:
                u, _ = run(masked(updates, state), state, params, extra_args)
                target = optax.apply_updates(params, u)
            weights, gradients = (
                {path: leaf for path, leaf in leaves_by_path(values).items() if path in masks}
                for values in (target, updates)
            )
            used = rule.used(state.masks, state.step)
            new = rule.change(weights, used, gradients, step, state.memory)
            kept, sown = (new.kept if rule.regrows else None), None
            if rule.sows and new.weights is not None:
                sown = {
                    path: leaf.astype(weights[path].dtype) for path, leaf in new.weights.items()
                }
            return new._replace(kept=kept, weights=sown), True

        is_due = rule.is_due(step)
        if axis_name is not None:
            # The same on all workers, and known to be: else vmap turns the branch into a select.
            is_due = lax.pmax(is_due.astype(jnp.int32), axis_name) > 0
        new, is_due = lax.cond(is_due, change, stay)
        # Always true, but only the branch knows it: what reads the moments now comes after the branch
        # that reads them too, so that they are updated in place and not copied.
        is_known = is_due | (step > 0)
        ready = jax.tree.map(lambda g: jnp.where(is_known, g, jnp.zeros_like(g)), updates)
        u, held = run(masked(ready, state), state, params, extra_args)
        if rule.takes_step:
            u = jax.tree.map(lambda move: jnp.where(is_due, jnp.zeros_like(move), move), u)
            old = (state.inner, state.fine_tune)
            held = jax.tree.map(lambda a, b: jnp.where(is_due, a, b), old, held)
        if rule.has_shadows:
            return u, MaskState(step, new.masks, *held, new.error, new.memory)
        live = {
            path: (new.masks[path] if new.kept is None else new.kept[path]) & mask
            for path, mask in masks.items()
        }
        return _moves(u, params, live, new), MaskState(
            step, new.masks, *held, new.error, new.memory
        )

    owner = MaskOwner(init_fn, update_fn)
    owner.rule, owner.mask_gradients, owner.run = rule, mask_gradients, run
    both = (inner,) if fine_tune is None else (inner, fine_tune)
    owner.optimizers = tuple(optax.with_extra_args_support(each) for each in both)
    return owner


def _map(of_leaf: Callable[..., jax.Array], values: Any, masks: Masks, *others: Any) -> Any:
    """Applies (leaf, *other leaves, mask) -> leaf where there is a mask; other leaves stay."""

    def at(path: Any, leaf: jax.Array, *rest: jax.Array) -> jax.Array:
        mask = masks.get(tree.join(path))
        return leaf if mask is None else of_leaf(leaf, *rest, mask)

    return jax.tree_util.tree_map_with_path(at, values, *others)


def _zero_dead(values: Any, masks: Masks) -> Any:
    return _map(lambda leaf, mask: jnp.where(mask, leaf, jnp.zeros_like(leaf)), values, masks)


def _moves(u: Any, params: Any, live: Masks, new: Change) -> Any:
    """Updates that lead to the weights of a change; without a change all live ones go on."""

    def at(path: Any, move: jax.Array, p: jax.Array) -> jax.Array:
        name = tree.join(path)
        if name not in live:
            return move
        # In the wider dtype of the two, in which p + (-p) is zero.
        other = -p
        if new.weights is not None:
            other = jnp.where(new.masks[name], new.weights[name] - p, other)
        return jnp.where(live[name], move, other)

    return jax.tree_util.tree_map_with_path(at, u, params)


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


def are_in(state: Any) -> bool:
    """Whether an optimizer's state holds masks.

    Example:
      >>> are_in((optax.EmptyState(), MaskState(0, {}, (), (), 0.0))), are_in(optax.EmptyState())
      (True, False)
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, MaskState))
    return any(isinstance(node, MaskState) for node in nodes)


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
    return _zero_dead(params, find(state).masks)
