"""Error feedback: what was not sent is added to what comes next.

        u = r + g,    s = what the receivers used of u,    r <- u - s

Where the exchange stands in an optax chain decides what is fed back. Before the learning rate
(`chain(exchange(...), sgd(lr))`) it is the gradient g: what was held back is later applied with the
learning rate of that later step. After it (`chain(sgd(lr), exchange(...))`) it is the update eta * g,
as in the theory of error feedback: then a falling learning rate does not shrink old remainders.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from sparsetrain import numerics, pretty
from sparsetrain.compress.compressor import accumulated


@runtime_checkable
class Memory(Protocol):
    """What a worker remembers between rounds.

    A state class may have a method `across_workers() -> {field: "mean" or "sum"}`: without it a run cannot go on
    with another number of workers, see `training.resize`.
    """

    def init(self, params: Any) -> Any:
        """State for parameters of these shapes."""
        ...

    def compensate(self, gradients: Any, state: Any) -> tuple[Any, Any]:
        """(u, state): what is offered to the compressor."""
        ...

    def update(self, u: Any, accepted: Any, payloads: Any, state: Any) -> Any:
        """State after a round in which `accepted` of u was used."""
        ...


class ResidualState(NamedTuple):
    """State of `residual`."""

    residual: Any  # like the parameters, at least float32

    def __repr__(self) -> str:
        return pretty.state(self)

    @staticmethod
    def across_workers() -> dict[str, str]:
        """What becomes of it when the number of workers changes, see `training.resize`."""
        return {"residual": "mean"}


def zeros(params: Any) -> Any:
    """Zeros like the parameters, at least float32."""
    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, numerics.accumulator_dtype(leaf.dtype)), params
    )


@dataclasses.dataclass(frozen=True)
class Residual:
    """See `residual`."""

    decay: float = 1.0

    def init(self, params: Any) -> ResidualState:
        return ResidualState(zeros(params))

    def compensate(self, gradients: Any, state: ResidualState) -> tuple[Any, ResidualState]:
        u = jax.tree.map(lambda r, g: self.decay * r + g, state.residual, accumulated(gradients))
        return u, state

    def update(self, u: Any, accepted: Any, payloads: Any, state: ResidualState) -> ResidualState:
        del payloads, state
        return ResidualState(jax.tree.map(jnp.subtract, u, accepted))


def residual(decay: float = 1.0) -> Residual:
    """Error feedback, the default memory.

        u = decay * r + g,    r <- u - accepted

    Args:
      decay: factor of the old remainder, 0 < decay <= 1. Only 1 conserves: the sum of all that was
        sent plus the residual is then the sum of all that was fed.

    Returns:
      A memory for `exchange` or `local_steps`.

    Raises:
      ValueError: decay outside (0, 1].

    Reference: Seide et al., 1-bit SGD, Interspeech 2014; Karimireddy et al. (arXiv 1901.09847).

    Example:
      >>> memory = residual()
      >>> state = memory.update(jnp.array([2.0, 1.0]), jnp.array([2.0, 0.0]), None, None)
      >>> memory.compensate(jnp.array([0.5, 0.5]), state)[0].tolist()
      [0.5, 1.5]
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay={decay}: must lie in (0, 1]; to forget everything use no_memory()")
    return Residual(decay)


@dataclasses.dataclass(frozen=True)
class NoMemory:
    """See `no_memory`."""

    def init(self, params: Any) -> tuple[()]:
        del params
        return ()

    def compensate(self, gradients: Any, state: tuple[()]) -> tuple[Any, tuple[()]]:
        return accumulated(gradients), state

    def update(self, u: Any, accepted: Any, payloads: Any, state: tuple[()]) -> tuple[()]:
        del u, accepted, payloads
        return state


def no_memory() -> NoMemory:
    """Forgets what was not sent: right for unbiased compressors (QSGD, TernGrad, natural, random-k rescaled).

    Example:
      >>> no_memory().compensate(jnp.ones(1), ())[0].tolist()
      [1.0]
    """
    return NoMemory()
