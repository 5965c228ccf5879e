"""Training on compact storage: updates between boundaries, and the masked form at a boundary."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sparsetrain import tree
from sparsetrain.masks import shape_blind
from sparsetrain.masks.compact import Compact, compact, expand, expand_params
from sparsetrain.masks.grow_and_prune import GrowAndPruneRule
from sparsetrain.masks.wrapper import MaskOwner, MaskState


def compact_update(tx: Any, grads: Any, held: Compact, **extra_args: Any) -> Compact:
    """One update of an optimizer on compact values; for use inside `jit`, not at a boundary.

        v <- v + u(g),    g = (dL/dw)[i]

    Args:
      tx: the wrapper whose state `held` is made of.
      grads: tree like `held.params`: the gradient of a loss of `expand_params(values, held)`.
      held: of `masks.compact`.
      **extra_args: for the optimizer.

    Returns:
      `held` after the update: the same shapes, dtypes and indices.

    Raises:
      TypeError: `tx` is no wrapper of this package.
      ValueError: an optimizer that works on more than entries, such as adafactor or muon, by name of
        its states; mask_gradients=False or restart=False, whose masked weights have a memory; P-GaP.

    Example:
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[0.0, -3.0], [2.0, 0.0]])}
      >>> tx = masks.static(optax.sgd(0.5), 0.5, scores=params)
      >>> held = masks.compact(params, tx.init(params))
      >>> masks.compact_update(tx, held.params, held).params["kernel"].tolist()
      [-1.5, 1.0]
    """
    owner = _owner(tx)
    shape_blind.check(owner, held)
    u, (inner, fine_tune) = owner.run(grads, held.state, held.params, extra_args)
    step = optax.safe_increment(held.state.step)
    state = held.state._replace(step=step, inner=inner, fine_tune=fine_tune)
    return dataclasses.replace(held, params=optax.apply_updates(held.params, u), state=state)


def is_boundary(tx: Any, step: int) -> bool:
    """Whether the update after `step` others changes masks, so that it needs the masked form.

    Args:
      tx: a wrapper of this package.
      step: `int(state.step)`.

    Returns:
      True for updates at the end of a phase, and for the very first, in which a partition grows.

    Example:
      >>> from sparsetrain import masks
      >>> parts = masks.partitions({"first": r"a/.*", "second": r"b/.*"})
      >>> tx = masks.grow_and_prune(optax.sgd(0.1), 0.1, parts, steps_per_phase=3, phases=2, key=jax.random.key(0))
      >>> [step for step in range(12) if masks.is_boundary(tx, step)]
      [0, 2, 5]
    """
    # The schedule is arithmetic, which numbers can do as well as arrays.
    return step == 0 or bool(_owner(tx).rule.is_due(cast(Any, step + 1)))


def compact_step(loss: Callable[..., Any], tx: Any, *, has_aux: bool = False) -> "CompactStep":
    """A training step that keeps sparse leaves compact, and knows where the boundaries are.

    Between boundaries: expand, differentiate, gather, update, in one compiled program a phase. At a
    boundary: `expand`, one step in masked form, `compact`.

    Args:
      loss: (params, *batch) -> scalar, or (scalar, anything) with has_aux.
      tx: of `grow_and_prune` or another wrapper of this package.
      has_aux: as in `jax.value_and_grad`.

    Returns:
      (held, *batch) -> (held, what `loss` returned). Not to be jitted. It takes over the arrays of
      the `Compact` that it is given: copy what is needed afterwards. In C-GaP it compiles one
      program for each of the kappa partitions, one for fine-tuning, and one in masked form. Where
      numbers of kept weights are not the same each time a partition is sparse, as with
      distribution="global", it compiles once a phase.

    Raises:
      TypeError, ValueError: as `compact_update`.

    Differs from the paper:
      1. It claims the saving for the whole run; here one step a phase, at the boundary, is in masked
         form and takes as much memory as that.

    Reference: Ma et al., GaP (arXiv 2106.09857).

    Example:
      >>> from sparsetrain import masks
      >>> params = {name: {"kernel": jnp.ones((4, 4))} for name in "ab"}
      >>> parts = masks.partitions({"first": r"a/.*", "second": r"b/.*"})
      >>> tx = masks.grow_and_prune(optax.sgd(0.1), 0.25, parts, steps_per_phase=2, phases=2, key=jax.random.key(0))
      >>> state = tx.init(params)
      >>> step = masks.compact_step(lambda p, x: ((x @ p["a"]["kernel"] @ p["b"]["kernel"]) ** 2).mean(), tx)
      >>> held = masks.compact(masks.apply(params, state), state)
      >>> for number in range(5):
      ...     held, value = step(held, jnp.ones((2, 4)))
      ...     print([held.params[name]["kernel"].shape for name in "ab"])
      [(4, 4), (4,)]
      [(4,), (4, 4)]
      [(4,), (4, 4)]
      [(4,), (4,)]
      [(4,), (4,)]
    """
    return CompactStep(loss, _owner(tx), has_aux)


class CompactStep:
    """See `compact_step`.

    Attributes:
      between: the compiled step between boundaries, (held, *batch) -> (held, value).
      at_boundary: the one in masked form, (params, state, *batch) -> (params, state, value).
    """

    def __init__(self, loss: Callable[..., Any], owner: MaskOwner, has_aux: bool):
        self._owner = owner
        # The step's number on the host, and the array that it is the number of.
        self._number: int = 0
        self._number_of: Any = None

        def between(held: Compact, *batch: Any) -> tuple[Compact, Any]:
            def of_values(values: Any) -> Any:
                return loss(expand_params(values, held), *batch)

            value, grads = jax.value_and_grad(of_values, has_aux=has_aux)(held.params)
            return compact_update(owner, grads, held), value

        def at_boundary(params: Any, state: Any, *batch: Any) -> tuple[Any, Any, Any]:
            value, grads = jax.value_and_grad(loss, has_aux=has_aux)(params, *batch)
            updates, state = owner.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        self.between = jax.jit(between, donate_argnums=0)
        self.at_boundary = jax.jit(at_boundary, donate_argnums=(0, 1))

    def __call__(self, held: Compact, *batch: Any) -> tuple[Compact, Any]:
        # Reading the number waits for the device, so that it is read only where it is not known.
        if held.state.step is not self._number_of:
            self._number = int(held.state.step)
        if is_boundary(self._owner, self._number):
            shape_blind.check(self._owner, held)
            params, state = expand(held)
            _free(held, (params, state))
            if self._number == 0:
                state = _with_first_memories(state, self._owner.init(params), params)
            params, state, value = self.at_boundary(params, state, *batch)
            held = compact(params, state)
        else:
            held, value = self.between(held, *batch)
        self._number, self._number_of = self._number + 1, held.state.step
        return held, value


def _with_first_memories(state: MaskState, first: MaskState, params: Any) -> MaskState:
    """Fills in what an optimizer starts from at masked weights: in some it is not zero."""
    starts: dict[str, Any] = {}

    def note(path: str, node: Any) -> Any:
        starts[path] = node
        return node

    def fill(where: str, node: Any) -> Any:
        def at(path: Any, leaf: jax.Array, start: jax.Array) -> jax.Array:
            mask = state.masks.get(tree.join(path))
            return leaf if mask is None else jnp.where(mask, leaf, start)

        return jax.tree_util.tree_map_with_path(at, node, starts[where])

    tree.map_like(note, (first.inner, first.fine_tune), params)
    inner, fine_tune = tree.map_like(fill, (state.inner, state.fine_tune), params)
    return state._replace(inner=inner, fine_tune=fine_tune)


def _free(old: Any, new: Any) -> None:
    """Gives the memory of arrays back that did not go over into the new form."""
    alive = {id(leaf) for leaf in jax.tree.leaves(new)}
    for leaf in jax.tree.leaves(old):
        if isinstance(leaf, jax.Array) and id(leaf) not in alive:
            leaf.delete()


def _owner(tx: Any) -> MaskOwner:
    """The wrapper, if compact storage can do what it does."""
    if not isinstance(tx, MaskOwner):
        raise TypeError(
            f"tx: {type(tx).__name__} is not what masks.grow_and_prune or another wrapper of masks "
            "returns; put what stands around the wrapper inside it"
        )
    rule = tx.rule
    if rule.has_shadows:
        raise ValueError(
            "compact: this method's masked weights live on, there is nothing to leave out"
        )
    if not tx.mask_gradients:
        raise ValueError(
            "compact: with mask_gradients=False masked weights have moments, which are not stored; "
            "leave it True"
        )
    if isinstance(rule, GrowAndPruneRule) and rule.restart == "none":
        raise ValueError(
            "compact: with restart=False weights come back to moments that are not stored; "
            "leave it True"
        )
    if isinstance(rule, GrowAndPruneRule) and rule.order == "parallel":
        raise ValueError(
            "compact: order='parallel' has other shapes on each worker; take 'cyclic' or 'random'"
        )
    return tx
