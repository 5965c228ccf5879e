"""Block-sparse products in an unmodified linen model: only live blocks of its masked kernels are multiplied.

While the model runs, the blocks of a kernel are a param beside it. So every lifted transformation
(scan, remat, jit) carries them as it carries the kernel.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util

from sparsetrain.masks.block_product import block_product

LIVE, PARAMS = "live", "params"
_SUFFIX = "__live"  # Of its name while the model runs; taken out again before anyone looks.


@dataclasses.dataclass(frozen=True)
class BlockSparse:
    """A linen model that multiplies live blocks only; made by `block_sparse`. Used as the model itself.

    Attributes:
      model: the plain model.
    """

    model: nn.Module

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Variables of the plain model; see `nn.Module.init`."""
        return self.model.init(rngs, *args, **kwargs)

    def apply(
        self, variables: Mapping[str, Any], *args: Any, mutable: Any = False, **kwargs: Any
    ) -> Any:
        """Runs the model, over live blocks if `variables` has a "live" collection, else as it is.

        Args:
          variables: {"params": ..., "live": what `masks.live_blocks` returned, the model's own}.
          *args: inputs.
          mutable: as for `nn.Module.apply`.
          **kwargs: as for `nn.Module.apply`.

        Returns:
          As `nn.Module.apply`.

        Raises:
          ValueError: a path in "live" that no matrix among the parameters has; the message lists them.
        """
        rest = {name: part for name, part in variables.items() if name != LIVE}
        live = variables.get(LIVE)
        if not live:
            return self.model.apply(rest, *args, mutable=mutable, **kwargs)
        rest[PARAMS] = _with_live(rest.get(PARAMS, {}), live)
        with nn.intercept_methods(_lend):
            result = self.model.apply(rest, *args, mutable=mutable, **kwargs)
        if mutable is False:
            return result
        output, state = result
        if PARAMS in state:
            state = {**state, PARAMS: _without_live(state[PARAMS])}
        return output, state


def block_sparse(model: nn.Module) -> BlockSparse:
    """Lets a linen model skip the dead blocks of its masked kernels, without touching its code.

        y = x W,    dx = dy W^T,    dW = x^T dy,    each over the live blocks of W

    Dense, and DenseGeneral with a kernel of two axes, multiply by blocks; other kernels in "live", such as
    an embedding's, and all that are not, multiply as they do. Kernels run where `kernels.dispatch` says
    and operands are bfloat16 or float16; anywhere else it is a dense product with the masked kernel.

        live = masks.live_blocks(tx, state)      # tx = masks.…(…, structure=masks.block(128, 128))
        sparse.apply({"params": params, "live": live}, x)

    Args:
      model: any linen module.

    Returns:
      An object with `init` and `apply`.

    Raises:
      ValueError: at `apply`, a path in "live" without a parameter, or a layer with a dot_general of its
        own (`backward.linen.sparsify` lends one too: a model has one of the two).

    Example:
      >>> import jax.numpy as jnp
      >>> model = block_sparse(nn.Dense(4, use_bias=False))
      >>> params = {"kernel": jnp.ones((4, 4))}
      >>> live = {"kernel": jnp.array([[True, False], [True, False]])}
      >>> model.apply({"params": params, "live": live}, jnp.ones((1, 4))).tolist()
      [[4.0, 4.0, 0.0, 0.0]]
    """
    return BlockSparse(model)


def _lend(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor: lends a layer whose blocks are known its product for the length of one call."""
    layer = context.module
    is_product = isinstance(layer, nn.Dense | nn.DenseGeneral) and context.method_name == "__call__"
    if not is_product or not layer.has_variable(PARAMS, "kernel" + _SUFFIX):
        return next_fn(*args, **kwargs)
    if layer.dot_general is not None or layer.dot_general_cls is not None:
        raise ValueError(
            f"live: layer {'/'.join(layer.path)!r} already has a dot_general of its own; leave its "
            "kernel out by masks.live_blocks(…, kernels=)"
        )
    live = layer.get_variable(PARAMS, "kernel" + _SUFFIX)
    # linen modules are frozen; the attribute is given back before anyone else can see it.
    object.__setattr__(layer, "dot_general", functools.partial(block_product, live))
    try:
        return next_fn(*args, **kwargs)
    finally:
        object.__setattr__(layer, "dot_general", None)


def _with_live(params: Mapping[str, Any], live: Mapping[str, jax.Array]) -> dict[str, Any]:
    """Puts blocks beside their kernels."""
    flat = dict(traverse_util.flatten_dict(dict(params), sep="/"))
    if unknown := [path for path in live if path not in flat]:
        raise ValueError(
            f'live: no parameter {", ".join(unknown)}; paths begin below "params", and there are '
            f"{', '.join(flat)}"
        )
    flat |= {path + _SUFFIX: blocks for path, blocks in live.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def _without_live(params: Mapping[str, Any]) -> dict[str, Any]:
    flat = traverse_util.flatten_dict(dict(params))
    kept = {path: leaf for path, leaf in flat.items() if not path[-1].endswith(_SUFFIX)}
    return traverse_util.unflatten_dict(kept)
