"""Momentum and delayed sending: correction inside the memory, masking of what was just sent."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain import pretty, tree
from sparsetrain.compress.compressor import accumulated
from sparsetrain.compress.memory import zeros
from sparsetrain.payload import Dense, is_payload

# Names under which optax keeps averages of squares; everything else shaped like the parameters
# counts as a first moment.
SECOND_MOMENTS = ("nu", "nu_max", "sum_of_squares", "e_g", "e_x", "v_row", "v_col")


class MomentumCorrectionState(NamedTuple):
    """State of `momentum_correction`."""

    velocity: Any  # u of the paper, like the parameters
    accumulated: Any  # v of the paper

    def __repr__(self) -> str:
        return pretty.state(self)

    @staticmethod
    def across_workers() -> dict[str, str]:
        """Both are linear in the gradients, and so is what parameters will receive of them."""
        return {"velocity": "mean", "accumulated": "mean"}


@dataclasses.dataclass(frozen=True)
class MomentumCorrection:
    """See `momentum_correction`."""

    momentum: float
    nesterov: bool = False
    masking: bool = True

    def init(self, params: Any) -> MomentumCorrectionState:
        return MomentumCorrectionState(zeros(params), zeros(params))

    def compensate(
        self, gradients: Any, state: MomentumCorrectionState
    ) -> tuple[Any, MomentumCorrectionState]:
        gradients = accumulated(gradients)
        if self.nesterov:
            velocity = jax.tree.map(lambda u, g: self.momentum * (u + g), state.velocity, gradients)
            total = jax.tree.map(lambda v, u, g: v + u + g, state.accumulated, velocity, gradients)
        else:
            velocity = jax.tree.map(lambda u, g: self.momentum * u + g, state.velocity, gradients)
            total = jax.tree.map(jnp.add, state.accumulated, velocity)
        return total, MomentumCorrectionState(velocity, total)

    def update(
        self, u: Any, accepted: Any, payloads: Any, state: MomentumCorrectionState
    ) -> MomentumCorrectionState:
        velocity = state.velocity
        if self.masking:
            leaves, structure = jax.tree.flatten(velocity)
            kept = [
                # What is sent whole every time has no delay to correct: ordinary momentum.
                leaf if isinstance(payload, Dense) else jnp.where(sent != 0, 0, leaf)
                for leaf, sent, payload in zip(
                    leaves,
                    jax.tree.leaves(accepted),
                    jax.tree.leaves(payloads, is_leaf=is_payload),
                    strict=True,
                )
            ]
            velocity = jax.tree.unflatten(structure, kept)
        return MomentumCorrectionState(velocity, jax.tree.map(jnp.subtract, u, accepted))


def momentum_correction(
    momentum: float = 0.9, *, nesterov: bool = False, masking: bool = True
) -> MomentumCorrection:
    """Error feedback on the velocity and not on the gradient, so that delayed entries carry their momentum.

        u <- momentum * u + g,      v <- v + u,    send from v
        v <- v - accepted,          u <- 0 where something was sent (masking)
        nesterov: u <- momentum * (u + g),  v <- v + u + g

    The optimizer behind the exchange must not add momentum again: use `optax.sgd(lr)`.

    Args:
      momentum: 0 <= momentum < 1.
      nesterov: whether to look ahead.
      masking: whether the velocity is zeroed where an entry was just sent, so that stale momentum
        does not push it further. Tensors that are sent densely keep ordinary momentum.

    Returns:
      A memory for `exchange`.

    Raises:
      ValueError: momentum outside [0, 1).

    Reference: Lin et al., Deep Gradient Compression (arXiv 1712.01887); the reference code's form.

    Example:
      >>> memory = momentum_correction(0.9)
      >>> v, state = memory.compensate(jnp.array([1.0]), memory.init(jnp.zeros(1)))
      >>> round(float(memory.compensate(jnp.array([1.0]), state)[0][0]), 2)     # 1 + 1.9
      2.9
    """
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum={momentum}: must lie in [0, 1)")
    return MomentumCorrection(momentum, nesterov, masking)


def mask_momentum(
    state: Any, params: Any, sent: Any, which: str | Callable[[str], bool] = "first"
) -> Any:
    """An optimizer's state with its moments set to zero where an entry was just sent.

    Works for every optimizer: a moment is any part of the state that has the parameters' tree
    structure and shapes.

    Args:
      state: of any optax transformation.
      params: the parameters.
      sent: tree of bool arrays like the parameters.
      which: "first" leaves averages of squares alone (those under optax's names for them), "all"
        zeroes these too; or a function of a moment's '/'-joined path.

    Returns:
      The state with those entries zeroed.

    Raises:
      ValueError: an unknown word for `which`.

    Differs from the paper:
      1. It says nothing about Adam. "first" is our reading.

    Reference: Sattler et al., Sparse Binary Compression, supplement 1.1.

    Example:
      >>> import optax
      >>> params = jnp.zeros(2)
      >>> state = optax.trace(0.9).update(jnp.ones(2), optax.trace(0.9).init(params))[1]
      >>> mask_momentum(state, params, jnp.array([True, False])).trace.tolist()
      [0.0, 1.0]
    """
    if which not in ("first", "all") and not callable(which):
        raise ValueError(f"which={which!r}: choose 'first', 'all' or a function of the path")

    def masked(path: str, node: Any) -> Any:
        if callable(which):
            chosen = which(path)
        else:
            chosen = which == "all" or not any(n in SECOND_MOMENTS for n in path.split("/"))
        if not chosen:
            return node
        return jax.tree.map(lambda leaf, at: jnp.where(at, jnp.zeros_like(leaf), leaf), node, sent)

    return tree.map_like(masked, state, params)
