"""One optimizer for the phases, another for the fine-tuning: two in the place of one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain import varying
from sparsetrain.masks.gated import either
from sparsetrain.programs import contains

# What tells an optimizer that costs next to nothing from one that multiplies matrices or loops.
_COSTLY = ("dot_general", "conv_general_dilated", "while", "scan", "custom_call", "sort", "fft")


class Turns(NamedTuple):
    """See `take_over`.

    Attributes:
      init: params -> (state of the first, state of the second or () if it fits into the first's).
      fresh: (params, step) -> the same, as it is when the one whose turn it is begins.
      update: (gradients, both states, params, step, extra arguments) -> (update, both states).
    """

    init: Callable[[Any], tuple[Any, Any]]
    fresh: Callable[[Any, jax.Array], tuple[Any, Any]]
    update: Callable[..., tuple[Any, tuple[Any, Any]]]


def take_over(
    first: optax.GradientTransformation,
    second: optax.GradientTransformation | None = None,
    after: int = 0,
) -> Turns:
    """Two optimizers that take turns, the second from a step on.

    Args:
      first: optimizer of all updates before `after`.
      second: of the others; None for the first all the time. If its state has the structure and
        shapes of the first's, both use one.
      after: updates of the first.

    Returns:
      Three functions.

    Example:
      >>> turns = take_over(optax.sgd(1.0, momentum=0.9), optax.sgd(0.5, momentum=0.9), after=1)
      >>> params = {"w": jnp.ones(1)}
      >>> states = turns.init(params)
      >>> states[1], turns.update(params, states, params, jnp.int32(1), {})[0]["w"].tolist()
      ((), [-0.5])
    """
    one = optax.with_extra_args_support(first)
    if second is None:
        return Turns(
            lambda params: (one.init(params), ()),
            lambda params, step: (one.init(params), ()),
            lambda g, states, params, step, extra: _only(one, g, states, params, extra),
        )
    two = optax.with_extra_args_support(second)

    def share(params: Any) -> bool:
        return _alike(one, two, params)

    def init(params: Any) -> tuple[Any, Any]:
        return one.init(params), () if share(params) else two.init(params)

    def fresh(params: Any, step: jax.Array) -> tuple[Any, Any]:
        if not share(params):
            return init(params)
        return _where(step >= after, two.init(params), one.init(params)), ()

    def update(
        g: Any, states: tuple[Any, Any], params: Any, step: jax.Array, extra: dict[str, Any]
    ) -> tuple[Any, tuple[Any, Any]]:
        shared = share(params)

        def early(states: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            return _only(one, g, states, params, extra)

        def late(states: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            if shared:
                return _only(two, g, states, params, extra)
            u, held = two.update(g, states[1], params, **extra)
            return u, (states[0], held)

        if shared and _is_elementwise(lambda: (early(states), late(states))):
            # In one pass: a branch would write the update to memory and copy the moments.
            return either(step >= after, lambda: early(states), lambda: late(states))
        return varying.cond(step >= after, late, early, states)

    return Turns(init, fresh, update)


def _only(
    optimizer: optax.GradientTransformationExtraArgs,
    g: Any,
    states: tuple[Any, Any],
    params: Any,
    extra: dict[str, Any],
) -> tuple[Any, tuple[Any, Any]]:
    u, held = optimizer.update(g, states[0], params, **extra)
    return u, (held, states[1])


def _where(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _alike(first: Any, second: Any, params: Any) -> bool:
    """Whether two optimizers' states have the same structure and shapes."""
    one, other = (jax.eval_shape(each.init, params) for each in (first, second))
    structures: list[Any] = [jax.tree.structure(each) for each in (one, other)]
    if structures[0] != structures[1]:
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


def _is_elementwise(work: Callable[[], Any]) -> bool:
    """Whether no product, loop or decomposition is in it."""
    return not contains(jax.make_jaxpr(work)(), *_COSTLY)
