"""SGD, plain or with momentum, that updates the touched rows only."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain.backward.row_sparse import moment
from sparsetrain.backward.row_sparse.gradient import is_row_sparse


class SgdState(NamedTuple):
    """State of `sgd`."""

    step: jax.Array  # int32 scalar, updates so far
    trace: Any  # None without momentum
    last: Any  # int32 [O] per row-sparse kernel: the step that last touched each row; None without momentum


def sgd(
    learning_rate: optax.ScalarOrSchedule, momentum: float | None = None, nesterov: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent on dense and row-sparse gradients; of a row-sparse kernel only the touched
    rows move.

        t <- momentum^e t + g,    w <- w - lr * t          (nesterov: w <- w - lr * (g + momentum * t))

    with e = steps since the row was last touched.

    Args:
      learning_rate: a number or an optax schedule of the step.
      momentum: decay of the trace; None keeps no trace, and is then exactly dense SGD on the same
        gradients.
      nesterov: whether to look ahead.

    Returns:
      A transformation to be used inside `carry_memory`; on dense leaves it is `optax.sgd`.

    Raises:
      ValueError: nesterov without momentum.

    Differs from dense SGD with momentum:
      1. A row that is not selected stays where it is; dense momentum would go on moving it. Its
         trace decays all the same.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = sgd(0.5)
      >>> params = {"w": jnp.ones(2)}
      >>> updates, _ = tx.update({"w": jnp.array([1.0, -2.0])}, tx.init(params), params)
      >>> updates["w"].tolist()
      [-0.5, 1.0]
    """
    if nesterov and momentum is None:
        raise ValueError("nesterov=True, momentum=None: give a momentum such as 0.9")

    def init_fn(params: Any) -> SgdState:
        count = jnp.zeros((), jnp.int32)
        if momentum is None:
            return SgdState(count, None, None)
        return SgdState(count, moment.zeros(params), moment.never(params))

    def update_fn(
        updates: Any, state: SgdState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, SgdState]:
        del params, extra_args
        count = optax.safe_increment(state.step)
        step = -moment.at_step(learning_rate, state.step)
        leaves, structure = jax.tree.flatten(updates, is_leaf=is_row_sparse)
        if momentum is None:
            scaled = [moment.scaled(leaf, step) for leaf in leaves]
            return jax.tree.unflatten(structure, scaled), SgdState(count, None, None)
        out: list[tuple[Any, ...]] = []
        for gradient, trace, last in zip(
            leaves, *moment.leaves_beside(structure, state.trace, state.last), strict=True
        ):
            sparse = is_row_sparse(gradient)
            values = gradient.values if sparse else gradient
            elapsed = None
            if sparse:
                elapsed, last = moment.elapsed_steps(gradient, last, count, values.dtype)
            moved = moment.advance(trace, gradient, momentum, 1, elapsed)
            change = step * (values + momentum * moved if nesterov else moved)
            if sparse:
                out.append((gradient.replace(change), gradient.put(trace, moved), last))
            else:
                out.append((change, moved, last))
        changes, traces, lasts = (
            jax.tree.unflatten(structure, part) for part in zip(*out, strict=True)
        )
        return changes, SgdState(count, traces, lasts)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
