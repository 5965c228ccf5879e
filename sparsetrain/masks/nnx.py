"""Block-sparse products in an nnx model, in place: layers change their class and gain their live blocks."""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
from flax import nnx

from sparsetrain.masks.block_product import block_product
from sparsetrain.masks.partition import leaves_by_path

M = TypeVar("M", bound=nnx.Module)


class Live(nnx.Variable):
    """Which blocks of a layer's kernel are there; neither trained nor differentiated."""


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Lends the layer a product over live blocks for the length of one call."""
    plain = layer.dot_general
    # Not by nnx's own setattr: the attribute is given back before the module is split again.
    lent = functools.partial(block_product, layer.live_blocks[...])
    object.__setattr__(layer, "dot_general", lent)
    try:
        plain_class: Any = type(layer).__base__
        return plain_class.__call__(layer, *args, **kwargs)
    finally:
        object.__setattr__(layer, "dot_general", plain)


@functools.cache
def _block_sparse_class(kind: type) -> type:
    """One subclass a layer class, so that equal models stay equal to jit."""
    members = {"__call__": _call, "__module__": __name__, "is_block_sparse": True}
    return type(f"BlockSparse{kind.__name__}", (kind,), members)


def _is_block_sparse(layer: Any) -> bool:
    return getattr(type(layer), "is_block_sparse", False)


def _is_plain(layer: Any) -> bool:
    """Whether a layer multiplies by JAX's own product."""
    product, made = layer.dot_general, getattr(layer, "dot_general_cls", None)
    is_sparsified = getattr(type(layer), "is_sparsified", False)  # By `backward.nnx`.
    return product in (None, jax.lax.dot_general) and made is None and not is_sparsified


def block_sparse(model: M, live: Mapping[str, jax.Array]) -> M:
    """Lets the layers of an nnx model skip the dead blocks of their masked kernels, in place.

        y = x W,    dx = dy W^T,    dW = x^T dy,    each over the live blocks of W

    Call it once outside `nnx.jit`, and again wherever masks may have changed, also inside:

        masks.nnx.block_sparse(model, masks.live_blocks(tx, optimizer.opt_state))

    A model whose blocks are older than its masks does not train what has grown since.

    Args:
      model: any nnx module; changed. Linear, and LinearGeneral with a kernel of two axes, multiply by
        blocks; other kernels in `live`, such as an embedding's, and all that are not, multiply as they do.
      live: of `masks.live_blocks`: path -> bool [I / b, O / b]. The same paths at every call.

    Returns:
      The same model.

    Raises:
      ValueError: a path of no parameter, a layer whose blocks are not given again, one with a dot_general
        of its own, or a first call inside `nnx.jit`.

    Example:
      >>> import jax.numpy as jnp
      >>> model = nnx.Linear(4, 4, use_bias=False, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
      >>> live = {"kernel": jnp.array([[True, False], [True, False]])}
      >>> block_sparse(model, live)(jnp.ones((1, 4))).tolist()
      [[4.0, 4.0, 0.0, 0.0]]
    """
    layers: dict[str, Any] = {
        "/".join((*map(str, path), "kernel")): layer
        for path, layer in nnx.iter_modules(model)
        if isinstance(layer, nnx.Linear | nnx.LinearGeneral)
    }
    parameters = list(leaves_by_path(nnx.state(model, nnx.Param)))
    if unknown := [path for path in live if path not in parameters]:
        raise ValueError(
            f"live: no parameter {', '.join(unknown)}; there are {', '.join(parameters)}"
        )
    if left := [p for p, layer in layers.items() if _is_block_sparse(layer) and p not in live]:
        raise ValueError(
            f"live: no blocks of {', '.join(left)}, which were given before; give the same paths at every call"
        )
    mine = {path: layer for path, layer in layers.items() if path in live}
    new = [path for path, layer in mine.items() if not _is_block_sparse(layer)]
    for path in new:
        if isinstance(live[path], jax.core.Tracer):
            raise ValueError(
                f"live: call block_sparse once outside jit, so that {path} is prepared"
            )
        if not _is_plain(mine[path]):
            raise ValueError(
                f"live: the layer of {path} already has a dot_general of its own; leave it out by "
                "masks.live_blocks(…, kernels=)"
            )
    for path, layer in mine.items():
        if path in new:
            kind: Any = type(layer)
            layer.__class__ = _block_sparse_class(kind)
            layer.live_blocks = Live(live[path])
        else:
            layer.live_blocks[...] = live[path]
    return model


def densify(model: M) -> M:
    """Takes the blocks off again: the plain model, for evaluation or export.

    Args:
      model: changed.

    Returns:
      The same model.

    Example:
      >>> import jax.numpy as jnp
      >>> model = block_sparse(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), {"kernel": jnp.ones((2, 2), bool)})
      >>> type(densify(model)) is nnx.Linear
      True
    """
    modules: list[Any] = [layer for _, layer in nnx.iter_modules(model)]
    for layer in modules:
        if _is_block_sparse(layer):
            layer.__class__ = type(layer).__base__
            del layer.live_blocks
    return model
