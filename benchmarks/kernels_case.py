"""What one line group of the kernel benchmark is: an operation on one shape, its rivals, and what they are held to."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain.kernels import dispatch

REFERENCE = dispatch.XLA
INPUTS = 3  # operands taken in turn, so that no call finds its own in a cache
Candidates = dict[str, Callable[[int], Any]]


@dataclasses.dataclass(frozen=True)
class Case:
    """An operation on one shape.

    Attributes:
      operation: what it is.
      shape: of which sizes.
      moved: bytes that it cannot but move: each input read once, each result written once.
      flops: operations of its matrix products; 0 where there are none.
      baseline: the candidate over which ratios are made.
      build: makes the candidates; functions of a running number.
      check: compares what runs here with the reference on fresh data, or raises ValueError.
    """

    operation: str
    shape: str
    moved: int
    flops: int
    baseline: str
    build: Callable[[], Candidates]
    check: Callable[[], None]


def available() -> list[str]:
    """Implementations that run here."""
    found = []
    for name in dispatch.IMPLEMENTATIONS:
        try:
            found.append(dispatch.choose(name, ()))
        except ValueError:
            continue
    return found


def fresh_key() -> jax.Array:
    """Of data of which nothing else knows."""
    return jax.random.key(np.random.default_rng().integers(2**31))


def hold_equal(name: str, found: Any, wanted: Any) -> None:
    """Refuses results that differ in any bit.

    Raises:
      ValueError: says in how many entries.
    """
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if not bool(jnp.all(a == b)):
            raise ValueError(f"{name} differs from {REFERENCE} in {int(jnp.sum(a != b))} entries")


def hold_close(name: str, found: Any, wanted: Any, tolerance: float) -> None:
    """Refuses results that are further from the reference than rounding takes them.

    Args:
      name: of the implementation.
      found: tree of arrays.
      wanted: the same in float32 from float32 operands.
      tolerance: of |found - wanted| / |wanted|, in the Euclidean norm of each array.

    Raises:
      ValueError: says how far; NaN never passes.
    """
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        error = jnp.linalg.norm((a.astype(jnp.float32) - b).ravel()) / jnp.linalg.norm(b.ravel())
        if not float(error) <= tolerance:
            raise ValueError(
                f"{name} is {float(error):.1e} off the reference, over {tolerance:.0e}"
            )
