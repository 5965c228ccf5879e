"""What the tests of all products share: operands, what counts as equal, kernels in their interpreters."""

import jax.numpy as jnp
import numpy as np

from sparsetrain.kernels import dispatch
from tests.kernels import targets

NAMES = (dispatch.MOSAIC_GPU, dispatch.TPU)
# What XLA would do around a kernel that cannot take its operands as they lie.
MOVES = ("transpose", "gather", "dot_general", "pad")


def normal(seed, *shape, dtype=jnp.bfloat16):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def wide(x):
    return np.asarray(x, np.float64)


def assert_close(found, wanted, terms):
    """Sums of so many products of standard normal numbers, rounded once to the dtype of what was found."""
    assert found.shape == wanted.shape
    allowed = 4 * float(jnp.finfo(found.dtype).eps) * np.sqrt(terms)
    np.testing.assert_allclose(wide(found), wanted, rtol=0, atol=allowed)


def interpreted(name, function, *operands):
    """Waits for the result, since the interpreter is set up only so long."""
    with targets.interpreter(name) as options:
        return function(*operands, **options).block_until_ready()


def moves(text):
    """Which of them a lowered program does to bfloat16 matrices."""
    lines = [line for line in text.splitlines() if "bf16" in line]
    return {move for move in MOVES if any(f"stablehlo.{move}" in line for line in lines)}
