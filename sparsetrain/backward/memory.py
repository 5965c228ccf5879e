"""How an optimizer carries the memory: parameters are optimized, memories are added to, the rest is left alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain import tree
from sparsetrain.backward.row_sparse.gradient import RowSparse, is_row_sparse

PARAMS, MEMORY, TAPS = "params", "memory", "row_sparse"
NNX_MEMORY = "sparse_memory"


class CarryMemoryState(NamedTuple):
    """State of `carry_memory`."""

    inner: optax.OptState


def _is_variables(node: Any) -> bool:
    """Whether a node is a dictionary of collections, as linen's `init` returns it."""
    return isinstance(node, Mapping) and PARAMS in node


def _has_nnx_memory(variables: Any) -> bool:
    return any(NNX_MEMORY in path.split("/") for path in tree.paths(variables))


def _like(node: Mapping[str, Any], parts: dict[str, Any]) -> Any:
    """The parts in a mapping of the same kind, such as flax's FrozenDict."""
    kind: Any = type(node)
    return kind(parts)


def _labels(node: Any, nnx: bool) -> Any:
    """Label of every leaf: which of the three treatments it gets."""
    if not nnx and _is_variables(node):
        known = {PARAMS: PARAMS, MEMORY: MEMORY}
        collections = {
            name: jax.tree.map(lambda _, name=name: known.get(name, "rest"), part)
            for name, part in node.items()
        }
        return _like(node, collections)
    if not nnx and isinstance(node, Mapping) and any(map(_is_variables, node.values())):
        models = {name: _labels(part, nnx) for name, part in node.items()}
        return _like(node, models)

    def label(path: Any, _: Any) -> str:
        # Not only the last step: an nnx variable is itself a node, with its value below.
        return MEMORY if NNX_MEMORY in map(tree.key_name, path) else PARAMS

    return jax.tree_util.tree_map_with_path(label, node)


def _taps(variables: Any) -> Mapping[str, Any] | None:
    return variables.get(TAPS) if _is_variables(variables) else None


def _with_row_sparse(params: Any, taps: Any, make: Any) -> Any:
    """The parameters with `make(kernel, tap)` in the place of every kernel that has a tap."""
    found = {
        tree.join(path): tap
        for path, tap in jax.tree_util.tree_leaves_with_path(taps, is_leaf=is_row_sparse)
    }
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: make(leaf, found[tree.join(path)]) if tree.join(path) in found else leaf,
        params,
    )


def carry_memory(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """An optimizer for whole variables: `tx` on the parameters, plain addition on the memories.

        params <- params + tx(grads),    memory <- memory + increment,    every other collection unchanged

    It takes what a sparsified linen model's `init` returns (`{"params": …, "memory": …, …}`;
    several such dictionaries under names of their own are fine), or the state of an nnx model,
    where a memory is a leaf called `sparse_memory`. Clipping, weight decay, moments and averages
    inside `tx` never see a memory. Variables with a "row_sparse" collection hand `tx` their
    kernels' gradients as `RowSparse`; then `tx` is made of `backward.row_sparse` transformations.

    Args:
      tx: any optax transformation, or an `optax.MultiSteps`. Nest as
        `carry_memory(optax.MultiSteps(tx, n))`. The other order,
        `optax.MultiSteps(carry_memory(tx), n)`, averages increments as if they were gradients, and
        so divides what is
        remembered by n: do not use it.

    Returns:
      A transformation whose updates fit `optax.apply_updates`.

    Raises:
      ValueError: at `init`, row-sparse variables with a `tx` that does not know row-sparse
        gradients.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = carry_memory(optax.sgd(0.1))
      >>> variables = {"params": {"w": jnp.ones(1)}, "memory": {"w": jnp.ones(1)}}
      >>> updates, _ = tx.update(variables, tx.init(variables), variables)
      >>> [round(float(updates[name]["w"][0]), 3) for name in ("params", "memory")]
      [-0.1, 1.0]
    """
    if isinstance(tx, optax.MultiSteps):
        tx = tx.gradient_transformation()
    tx = optax.with_extra_args_support(tx)

    def partitioned(variables: Any) -> optax.GradientTransformationExtraArgs:
        nnx = type(variables).__module__.startswith("flax.nnx") or _has_nnx_memory(variables)
        parts = {PARAMS: tx, MEMORY: optax.identity(), "rest": optax.set_to_zero()}
        return optax.partition(parts, lambda node: _labels(node, nnx))

    def init_fn(variables: Any) -> CarryMemoryState:
        taps = _taps(variables)
        if taps is None:
            return CarryMemoryState(partitioned(variables).init(variables))
        params = _with_row_sparse(variables[PARAMS], taps, _whole)
        _check_row_sparse(tx, params, variables[PARAMS], taps)
        return CarryMemoryState(tx.init(params))

    def update_fn(
        updates: Any, state: CarryMemoryState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, CarryMemoryState]:
        taps = _taps(updates)
        if taps is None:
            updates, inner = partitioned(updates).update(updates, state.inner, params, **extra_args)
            return updates, CarryMemoryState(inner)
        grads = _with_row_sparse(updates[PARAMS], taps, lambda _, tap: tap.settled())
        kernels = None if params is None else _with_row_sparse(params[PARAMS], taps, _whole)
        changes, inner = tx.update(grads, state.inner, kernels, **extra_args)
        carried = {
            name: part if name == MEMORY else jax.tree.map(jnp.zeros_like, part)
            for name, part in updates.items()
            if name != PARAMS
        }
        return {**carried, PARAMS: changes}, CarryMemoryState(inner)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _whole(kernel: jax.Array, tap: RowSparse) -> RowSparse:
    """A kernel presented to a row-sparse optimizer: all its rows, and where they lie."""
    return RowSparse(kernel, None, None, tap.axis)


def _check_row_sparse(tx: Any, params: Any, kernels: Any, taps: Any) -> None:
    """One abstract update, so that an optimizer that cannot take row-sparse gradients says so at init."""

    def one_update(params: Any, kernels: Any, taps: Any) -> Any:
        grads = _with_row_sparse(kernels, taps, lambda _, tap: tap.settled())
        updates, _ = tx.update(grads, tx.init(params), params)
        return optax.apply_updates(kernels, updates)

    try:
        jax.eval_shape(one_update, params, kernels, taps)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "carry_memory: these variables have row-sparse gradients, which this optimizer does not take "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}); inside carry_memory use "
            "sparsetrain.backward.row_sparse.sgd, adam and clip_by_global_norm, or sparsify with row_sparse=False"
        ) from error


def rescale_memory(
    variables: Any, old_scale: float | jax.Array, new_scale: float | jax.Array
) -> Any:
    """Variables whose memories are in units of a new loss scale.

        M <- M * S' / S

    With loss scaling the cotangents, and so the memories, are S times too large. Both stay
    consistent as long as S does; call this whenever S changes.

    Args:
      variables: linen variables or an nnx state.
      old_scale: S, the scale under which the memories were collected.
      new_scale: S', the scale of the next step.

    Returns:
      The same tree with every error memory multiplied, all else untouched. Step counters (scalars)
      are left alone.

    Example:
      >>> import jax.numpy as jnp
      >>> rescale_memory({"params": {}, "memory": {"w": jnp.ones(1)}}, 1024.0, 512.0)["memory"]["w"].tolist()
      [0.5]
    """
    factor = jnp.asarray(new_scale) / jnp.asarray(old_scale)
    return _map_labelled(
        variables,
        lambda label, leaf: (
            leaf * factor.astype(leaf.dtype) if label == MEMORY and jnp.ndim(leaf) else leaf
        ),
    )


def unscale(grads: Any, scale: float | jax.Array) -> Any:
    """Gradients divided by the loss scale, increments of memories left in scaled units.

        dW <- dW / S

    Args:
      grads: gradient of the scaled loss with respect to whole variables.
      scale: S.

    Returns:
      The same tree; only leaves that the optimizer will use as gradients are divided. Row-sparse
      gradients are divided in their values.

    Example:
      >>> import jax.numpy as jnp
      >>> grads = {"params": {"w": jnp.ones(1)}, "memory": {"w": jnp.ones(1)}}
      >>> out = unscale(grads, 4.0)
      >>> out["params"]["w"].tolist(), out["memory"]["w"].tolist()
      ([0.25], [1.0])
    """
    factor = 1.0 / jnp.asarray(scale)
    unscaled = _map_labelled(
        grads, lambda label, leaf: leaf * factor.astype(leaf.dtype) if label == PARAMS else leaf
    )
    taps = _taps(unscaled)
    if taps is None:
        return unscaled
    divided = jax.tree.map(
        lambda tap: tap.replace(tap.values * factor.astype(tap.values.dtype)),
        taps,
        is_leaf=is_row_sparse,
    )
    return {**unscaled, TAPS: divided}


def _map_labelled(variables: Any, function: Any) -> Any:
    nnx = type(variables).__module__.startswith("flax.nnx") or _has_nnx_memory(variables)
    return jax.tree.map(function, _labels(variables, nnx), variables)
