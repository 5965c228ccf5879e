"""Plain parameters out of whatever sparsetrain has wrapped around them."""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import masks, tree
from sparsetrain.backward.memory import MEMORY, PARAMS, TAPS
from sparsetrain.backward.row_sparse.gradient import is_row_sparse
from sparsetrain.compress.local_steps import LocalStepsState
from sparsetrain.masks.shadow import seen_by_the_model


def export_params(variables: Any, opt_state: Any = None) -> Any:
    """The parameters that the plain model takes: for evaluation, checkpoints, other libraries.

        local steps: W = A, what all workers agreed upon;    masks: W = m W;    then without memories and taps

    Args:
      variables: parameters as training holds them: a tree; what a sparsified linen model's `init` returned
        (several models under names of their own are fine); a `masks.Compact`; an nnx module or its state.
      opt_state: of the optimizer, if there are masks or local steps in it: what stands in the variables may
        not be what the model computes with (`dpf`, `soft_threshold`), or not yet what workers agree upon.

    Returns:
      The tree of parameters. Of linen variables it is what stands under "params", with kernels [I, O]
      again where row-sparse gradients had them [O, I]; other collections, such as "batch_stats", are plain
      already. Of an nnx module it is a dictionary of arrays, for `nnx.update`. Nothing is copied that is
      not changed. With a worker axis in front (`vmap`), give one worker's.

    Raises:
      ValueError: several local steps or mask states, or one that belongs to other parameters.

    Example:
      >>> import optax
      >>> from sparsetrain import masks
      >>> variables = {"params": {"w": jnp.array([[1.0, -3.0]])}, "memory": {"w": jnp.zeros(2)}}
      >>> tx = masks.static(optax.sgd(0.1), 0.5, scores=variables["params"])
      >>> export_params(variables, tx.init(variables["params"]))["w"].tolist()
      [[0.0, -3.0]]
    """
    if isinstance(variables, masks.Compact):
        variables, own = masks.expand(variables)
        opt_state = (opt_state, own)
    held = _of_nnx(variables)
    kinds = tuple(kind for kind in seen_by_the_model.registry if kind is not object)
    for state in _at_most_one(LocalStepsState, opt_state, "local steps"):
        held = _agreed(held, state)
    for state in _at_most_one(kinds, opt_state, "masks"):
        paths = state.thresholds if hasattr(state, "thresholds") else state.masks
        held = _changed(held, paths, functools.partial(seen_by_the_model, state))
    return _plain(held)


def _at_most_one(kinds: Any, opt_state: Any, what: str) -> list[Any]:
    found = tree.nodes(kinds, opt_state)
    if len(found) > 1:
        raise ValueError(
            f"opt_state: it holds {len(found)} states of {what}; give the part of it that belongs to these parameters"
        )
    return found


def _agreed(held: Any, state: LocalStepsState) -> Any:
    """The anchor in the place of the parameters that it is the anchor of."""
    anchor = _by_path(state.anchor)

    def at(path: Any, leaf: Any) -> Any:
        found = anchor.get(tree.join(path))
        return leaf if found is None else found.astype(leaf.dtype)

    return _changed(held, anchor, lambda part: jax.tree_util.tree_map_with_path(at, part))


def _by_path(params: Any) -> dict[str, Any]:
    """'/'-joined path -> leaf."""
    pairs = jax.tree_util.tree_leaves_with_path(params)
    return {tree.join(path): leaf for path, leaf in pairs}


def _changed(held: Any, paths: Iterable[str], change: Callable[[Any], Any]) -> Any:
    """Applies a change where paths fit: an optimizer saw all variables, or their parameters alone."""
    wanted = set(paths)
    if wanted <= set(tree.paths(held)):
        return change(held)
    if isinstance(held, Mapping) and PARAMS in held and wanted <= set(tree.paths(held[PARAMS])):
        return {**held, PARAMS: change(held[PARAMS])}
    if wanted <= {f"{PARAMS}/{path}" for path in tree.paths(held)}:
        return change({PARAMS: held})[PARAMS]
    missing = sorted(wanted - set(tree.paths(held)))
    raise ValueError(
        f"opt_state: it knows {missing[0]!r}, which these parameters do not have "
        f"({', '.join(tree.paths(held)[:5])}, …); give the variables that it was made for"
    )


def _plain(held: Any) -> Any:
    """Without collections of ours."""
    if not isinstance(held, Mapping):
        return held
    if PARAMS in held:
        taps = held.get(TAPS, {})
        turned = {
            tree.join(path)
            for path, tap in jax.tree_util.tree_leaves_with_path(taps, is_leaf=is_row_sparse)
            if tap.axis == 0
        }

        def at(path: Any, leaf: Any) -> Any:
            return jnp.swapaxes(leaf, 0, 1) if tree.join(path) in turned else leaf

        return jax.tree_util.tree_map_with_path(at, held[PARAMS]) if turned else held[PARAMS]
    if any(isinstance(part, Mapping) and PARAMS in part for part in held.values()):
        kind: Any = type(held)
        return kind({name: _plain(part) for name, part in held.items() if name != MEMORY})
    return held


def _of_nnx(variables: Any) -> Any:
    """An nnx module or state as a dictionary of its parameters; anything else as it is."""
    if "flax" not in sys.modules:  # Then it cannot be one, and flax is not needed here.
        return variables
    from flax import nnx

    if isinstance(variables, nnx.Module):
        variables = nnx.state(variables)
    if isinstance(variables, nnx.State):
        return nnx.to_pure_dict(nnx.filter_state(variables, nnx.Param))
    return variables
