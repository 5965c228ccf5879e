"""An optimizer's new state, decided where it is made and not at the end.

Where a step may be skipped, or one of two optimizers may have made it, the new moment is a choice:

        m' = where(skipped, m, beta m + (1 - beta) g),        update = f(beta m + (1 - beta) g)

Both read the old moment, so that it cannot be overwritten: a copy of every moment at every step. Here the
choice is put into the optimizer's own program, right behind the moment, and the update comes of m'. It is
another update where the step is skipped only, which nobody reads.
"""

from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

# Yields (place in the new state, its new value), is sent what is held instead, returns all outputs.
Steps = Generator[tuple[int, jax.Array], jax.Array, list[Any]]


def skip(is_skipped: jax.Array, update: Callable[[], tuple[Any, Any]], old: Any) -> tuple[Any, Any]:
    """An update whose new state is the old one where it is skipped.

    Args:
      is_skipped: bool scalar.
      update: () -> (update, new state).
      old: the state before, a tree of arrays like the new one.

    Returns:
      (update, state); the update is undefined where it is skipped.

    Example:
      >>> def update(m=jnp.array([2.0])):
      ...     return 10.0 * (m + 1.0), m + 1.0
      >>> [skip(jnp.bool_(yes), update, jnp.array([2.0]))[1].tolist() for yes in (True, False)]
      [[2.0], [3.0]]
    """
    program, tree = _traced(update)
    before = jax.tree.leaves(old)
    steps = _evaluate(program, len(before))
    sent: Any = None
    while True:
        try:
            place, new = steps.send(sent)
        except StopIteration as end:
            return jax.tree.unflatten(tree, end.value)
        sent = jnp.where(is_skipped, before[place], new)


def either(
    is_second: jax.Array,
    first: Callable[[], tuple[Any, Any]],
    second: Callable[[], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """One of two updates with alike states.

    Args:
      is_second: bool scalar.
      first: () -> (update, new state).
      second: the other; the same structures, shapes and dtypes.

    Returns:
      What one of them returns.

    Example:
      >>> def update(rate, m=jnp.array([2.0])):
      ...     return rate * (m + 1.0), m + 1.0
      >>> u, _ = either(jnp.bool_(True), lambda: update(10.0), lambda: update(20.0))
      >>> u.tolist()
      [60.0]
    """
    (one, tree), (two, _) = _traced(first), _traced(second)
    size = len(jax.tree.leaves(jax.tree.unflatten(tree, range(tree.num_leaves))[1]))
    both = _evaluate(one, size), _evaluate(two, size)
    sent: Any = None
    while True:
        found = [_next(steps, sent) for steps in both]
        if isinstance(found[0], list) or isinstance(found[1], list) or found[0][0] != found[1][0]:
            break
        sent = jnp.where(is_second, found[1][1], found[0][1])
    # Where they make their states in another order, the rest is decided at the end.
    ends = [_rest(steps, each) for steps, each in zip(both, found, strict=True)]
    chosen = [a if a is b else jnp.where(is_second, b, a) for a, b in zip(*ends, strict=True)]
    return jax.tree.unflatten(tree, chosen)


def _traced(update: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    program, shapes = jax.make_jaxpr(update, return_shape=True)()
    return program, jax.tree.structure(shapes)


def _next(steps: Steps, sent: Any) -> Any:
    try:
        return steps.send(sent)
    except StopIteration as end:
        return end.value


def _rest(steps: Steps, found: Any) -> list[Any]:
    while not isinstance(found, list):
        found = _next(steps, found[1])
    return found


def _evaluate(program: Any, size: int) -> Steps:
    """Runs a program whose last `size` outputs are a state, and lets another decide what that is."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    split = len(jaxpr.outvars) - size
    state = jaxpr.outvars[split:]
    # What is no result of an equation, or is two leaves at once, is decided at the end.
    once = {
        var: place
        for place, var in enumerate(state)
        if not isinstance(var, core.Literal) and state.count(var) == 1
    }
    decided: dict[int, Any] = {}

    def read(var: Any) -> Any:
        return var.val if isinstance(var, core.Literal) else known[var]

    for equation in jaxpr.eqns:
        params = equation.primitive.get_bind_params(equation.params)
        with equation.ctx.manager:
            found = equation.primitive.bind(*map(read, equation.invars), **params)
        results = found if equation.primitive.multiple_results else [found]
        for var, value in zip(equation.outvars, results, strict=True):
            known[var] = value
            if (place := once.get(var)) is not None:
                known[var] = decided[place] = yield place, value
    for place, var in enumerate(state):
        if place not in decided:
            decided[place] = yield place, read(var)
    return [*map(read, jaxpr.outvars[:split]), *(decided[place] for place in range(size))]
