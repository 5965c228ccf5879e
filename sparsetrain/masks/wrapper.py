"""The optax wrapper that owns the masks: masked weights are exactly zero after every update.

        u = inner(g),    update = u where the mask is one, else -p

Live weights get the inner update untouched; dead ones p + (-p) = 0, exactly, whatever the inner
optimizer wanted. So there is no hook to forget; but the wrapper must come last in a chain, since a
transformation behind it could move dead weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import pretty, tree
from sparsetrain.masks import boundary
from sparsetrain.masks.boundary import Boundary
from sparsetrain.masks.gated import skip
from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.masks.restart import declared, restarted
from sparsetrain.masks.rule import Masks, Rule
from sparsetrain.masks.seldom import seldom
from sparsetrain.masks.take_over import take_over


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

    def _facts(self) -> dict[str, Any]:
        masks = self.masks
        if isinstance(masks, dict):
            masks = {path: pretty.share(mask) for path, mask in masks.items()}
        return {**self._asdict(), "masks": masks}

    def __repr__(self) -> str:
        facts = self._facts()
        shown = (
            f"{name}={pretty.brief(facts[name])!r}" for name in ("step", "masks", "mask_error")
        )
        return f"MaskState({', '.join(shown)})"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return pretty.scope(self, path, subtree_renderer)


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
      axis_name: of `vmap` or `shard_map` if this runs inside one: lets all change at once.

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

        def alive(part: Any) -> Any:
            return tree.map_leaves_like(
                lambda path, leaf: _alive(leaf, state.masks.get(path)), part, params
            )

        if rule.restart == "grown":
            # A dead weight's moments are zero, so that a grown one begins with zeros.
            return alive(held)
        owes = any(map(declared, jax.tree.leaves(held, is_leaf=declared)))
        if rule.restart != "all" and not owes:
            return held
        fresh = turns.fresh(params, state.step)
        follows = rule.is_due(state.step) & (state.step > 0)
        # What nobody forgets is sent: a dead weight's momentum too.
        new = restarted(held, fresh, alive) if rule.restart == "all" else alive(held)
        new = jax.tree.map(lambda a, b: jnp.where(follows, a, b), new, held)
        if not owes:
            return new
        # Parameters were masked after `init`, and what was copied of them there was not.
        is_first = state.step == 0
        return jax.tree.map(lambda a, b: jnp.where(is_first, a, b), fresh, new)

    def run(
        g: Any, state: MaskState, params: Any, extra_args: dict[str, Any]
    ) -> tuple[Any, tuple[Any, Any]]:
        """(update, (inner, fine_tune)) of the optimizer whose turn it is."""
        return turns.update(g, begun(params, state), params, state.step, extra_args)

    def on_all(is_due: jax.Array) -> jax.Array:
        """The same on all workers, and known to be: else vmap changes all where one is due."""
        if axis_name is None:
            return is_due
        return lax.pmax(is_due.astype(jnp.int32), axis_name) > 0

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
        masks = state.masks
        if (widens := rule.widens(state.step)) is not None:
            masks, _ = seldom(on_all(widens), lambda held: rule.used(held, state.step), masks)

        # Only masks are changed seldom. What touches weights and moments stays outside, in one pass
        # with the optimizer; and the change computes for itself what it reads, since what is not yet
        # in memory would have to be written there at every update.
        def change(before: Boundary) -> Boundary:
            old, target = before.masks, params
            if not rule.takes_step:
                g = _zero_dead(updates, old) if mask_gradients else updates
                u, _ = run(g, state._replace(masks=old), params, extra_args)
                target = optax.apply_updates(params, u)
            weights, gradients = (
                {path: leaf for path, leaf in leaves_by_path(values).items() if path in old}
                for values in (target, updates)
            )
            new = rule.change(weights, old, gradients, step, before.memory)
            return boundary.between(rule, old, new, leaves)

        leaves = leaves_by_path(params)
        stay = boundary.none(rule, masks, leaves, state.mask_error, state.memory)
        new, was_due = seldom(on_all(rule.is_due(step)), change, stay)
        # Always true, but only the loop knows it: what reads the moments now comes after the change
        # that reads them too, so that they are updated in place and not copied.
        is_known = was_due | (step > 0)
        ready = jax.tree.map(lambda g: jnp.where(is_known, g, jnp.zeros_like(g)), updates)
        old = new.masks_before()
        g = _zero_dead(ready, old) if mask_gradients else ready
        now = state._replace(masks=old)
        if rule.takes_step:
            u, held = skip(
                was_due,
                lambda: run(g, now, params, extra_args),
                (state.inner, state.fine_tune),
            )
            u = jax.tree.map(lambda move: jnp.where(was_due, jnp.zeros_like(move), move), u)
        else:
            u, held = run(g, now, params, extra_args)
        after = MaskState(step, new.masks, held[0], held[1], new.error, new.memory)
        return (u if rule.has_shadows else new.moves(u, params)), after

    owner = MaskOwner(init_fn, update_fn)
    owner.rule, owner.mask_gradients, owner.run = rule, mask_gradients, run
    both = (inner,) if fine_tune is None else (inner, fine_tune)
    owner.optimizers = tuple(optax.with_extra_args_support(each) for each in both)
    return owner


def _alive(leaf: jax.Array, mask: jax.Array | None) -> jax.Array:
    return leaf if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf))


def _zero_dead(values: Any, masks: Masks) -> Any:
    def at(path: Any, leaf: jax.Array) -> jax.Array:
        return _alive(leaf, masks.get(tree.join(path)))

    return jax.tree_util.tree_map_with_path(at, values)


def find(state: Any) -> MaskState:
    """The one mask state inside an optimizer's state.

    Raises:
      ValueError: none, or several.

    Example:
      >>> find((optax.EmptyState(), MaskState(0, {}, (), (), 0.0))).step
      0
    """
    found = tree.nodes(MaskState, state)
    if len(found) != 1:
        raise ValueError(f"masks: the state holds {len(found)} mask states; it needs exactly one")
    return found[0]


def are_in(state: Any) -> bool:
    """Whether an optimizer's state holds masks.

    Example:
      >>> are_in((optax.EmptyState(), MaskState(0, {}, (), (), 0.0))), are_in(optax.EmptyState())
      (True, False)
    """
    return bool(tree.nodes(MaskState, state))


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
