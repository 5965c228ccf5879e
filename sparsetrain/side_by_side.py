"""One function of every worker that a single device simulates: all at once, or one worker behind the other."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from sparsetrain.programs import convolves

R = TypeVar("R")

# Every worker has a copy of the function in the program: a ResNet-8 takes 2.6 s more to compile for each.
MOST = 16


def side_by_side(function: Callable[..., R]) -> Callable[..., R]:
    """The function, of which `jax.vmap` makes copies where it has convolutions.

    A convolution whose kernel has an axis of workers becomes one with a group a worker, for which XLA has no fast
    program: on a CPU a ResNet-8 takes three times as long as with the convolutions of the workers one by one
    (`benchmarks/workers.py`; not measured elsewhere).

    Args:
      function: of trees of arrays, without collectives; what workers have of their own it takes as arguments. Whoever
        wants its gradient passes the gradient's function.

    Returns:
      The same function; under `vmap` over up to `MOST` workers its convolutions stay the ones they are.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def convolve(x, kernel):
      ...     return jax.lax.conv(x, kernel, (1, 1), "SAME")
      >>> x, kernels = jnp.ones([2, 1, 3, 8, 8]), jnp.ones([2, 4, 3, 3, 3])        # two workers
      >>> groups = lambda f: "feature_group_count=2" in str(jax.make_jaxpr(jax.vmap(f))(x, kernels))
      >>> groups(convolve), groups(side_by_side(convolve))
      (True, False)
    """
    called = custom_vmap(function)

    def of_all(workers: int, batched: Sequence[Any], *args: Any) -> tuple[R, Any]:
        def own(worker: int) -> Any:
            return jax.tree.map(lambda leaf, has: leaf[worker] if has else leaf, args, batched)

        batched = tuple(batched)
        if workers <= MOST and convolves(function, *own(0)):
            found = [function(*own(worker)) for worker in range(workers)]
            result = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
        else:
            axes = jax.tree.map(lambda has: 0 if has else None, batched)
            result = jax.vmap(function, axes)(*args)
        return result, jax.tree.map(lambda _: True, result)

    called.def_vmap(of_all)
    return called
