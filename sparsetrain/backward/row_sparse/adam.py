"""Adam that updates the touched rows only."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain.backward.row_sparse import moment
from sparsetrain.backward.row_sparse.gradient import is_row_sparse


class AdamState(NamedTuple):
    """State of `adam`."""

    step: jax.Array  # int32 scalar, updates so far
    mu: optax.Updates
    nu: optax.Updates
    last: Any  # int32 [O] per row-sparse kernel: the step that last touched each row


def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    correct_decay: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Adam on dense and row-sparse gradients; of a row-sparse kernel only the touched rows move.

        m <- b1^e m + (1 - b1) g,    v <- b2^e v + (1 - b2) g^2,    e = steps since the row was last touched
        w <- w - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
      learning_rate: a number or an optax schedule of the step.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the denominator.
      correct_decay: whether moments decay over the steps in which their row was not touched (e as
        above). False takes e = 1, as PyTorch's SparseAdam does.

    Returns:
      A transformation to be used inside `carry_memory`; on dense leaves it is `optax.adam`.

    Differs from dense Adam:
      1. A row that is not selected stays where it is; dense Adam would go on moving it by its
         momentum. With
        `correct_decay` the moments themselves are those of dense Adam fed with zeros in between.
      2. Gradients that reach a row-sparse kernel by another way than its layer's product (an L2
         penalty in the loss) are not
        seen.

    Reference: Kingma and Ba, Adam (arXiv 1412.6980).

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = adam(0.1)
      >>> params = {"w": jnp.ones(2)}
      >>> updates, _ = tx.update({"w": jnp.array([1.0, -2.0])}, tx.init(params), params)
      >>> [round(float(u), 3) for u in updates["w"]]
      [-0.1, 0.1]
    """

    def init_fn(params: Any) -> AdamState:
        zeros = moment.zeros(params)
        return AdamState(
            jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros), moment.never(params)
        )

    def update_fn(
        updates: Any, state: AdamState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, AdamState]:
        del params, extra_args
        count = optax.safe_increment(state.step)
        leaves, structure = jax.tree.flatten(updates, is_leaf=is_row_sparse)
        rate = moment.at_step(learning_rate, state.step)
        out: list[tuple[Any, ...]] = []
        for gradient, mu, nu, last in zip(
            leaves, *moment.leaves_beside(structure, state.mu, state.nu, state.last), strict=True
        ):
            sparse = is_row_sparse(gradient)
            values = gradient.values if sparse else gradient
            dtype = values.dtype
            steps = count.astype(dtype)
            elapsed = None
            if sparse and correct_decay:
                elapsed, last = moment.elapsed_steps(gradient, last, count, dtype)
            squares = gradient.replace(values * values) if sparse else values * values
            m = moment.advance(mu, gradient, b1, 1 - b1, elapsed)
            v = moment.advance(nu, squares, b2, 1 - b2, elapsed)
            change = -rate * (m / (1 - b1**steps)) / (jnp.sqrt(v / (1 - b2**steps)) + eps)
            if sparse:
                out.append(
                    (gradient.replace(change), gradient.put(mu, m), gradient.put(nu, v), last)
                )
            else:
                out.append((change, m, v, last))
        changes, mus, nus, lasts = (
            jax.tree.unflatten(structure, part) for part in zip(*out, strict=True)
        )
        return changes, AdamState(count, mus, nus, lasts)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
