"""What is in a traced program, however deep."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

CONVOLUTION = "conv_general_dilated"


def contains(node: Any, *primitives: str) -> bool:
    """Whether a program, or one in an equation's parameters, has one of these primitives.

    Args:
      node: as from `jax.make_jaxpr`, or the parameters of one of its equations.
      *primitives: their names.

    Returns:
      Also True where a branch or a loop holds it that may never run.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> program = jax.make_jaxpr(jax.jit(jnp.dot))(jnp.ones(2), jnp.ones(2))
      >>> contains(program, "dot_general"), contains(program, "sort")
      (True, False)
    """
    if isinstance(node, ClosedJaxpr):
        node = node.jaxpr
    if isinstance(node, Jaxpr):
        return any(
            each.primitive.name in primitives or contains(each.params, *primitives)
            for each in node.eqns
        )
    if isinstance(node, Mapping):
        return any(contains(each, *primitives) for each in node.values())
    return isinstance(node, (tuple, list)) and any(contains(each, *primitives) for each in node)


def convolves(function: Callable[..., Any], *args: Any) -> bool:
    """Whether a function has a convolution in it.

    Args:
      function: of trees of arrays; it is traced, not run.
      *args: what it is called with, or shapes of it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> x = jnp.zeros([1, 8, 8, 3])
      >>> conv, dense = (lambda x, make=make: make.init_with_output(jax.random.key(0), x)
      ...                for make in (nn.Conv(4, (3, 3)), nn.Dense(4)))
      >>> convolves(conv, x), convolves(dense, x)
      (True, False)
    """
    return contains(jax.make_jaxpr(function)(*args), CONVOLUTION)
