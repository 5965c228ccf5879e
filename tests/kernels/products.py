"""What the tests of all products share: operands, what counts as equal, kernels in their interpreters."""

import jax.numpy as jnp
import numpy as np

from sparsetrain.kernels import dispatch
from tests.kernels import targets

NAMES = (dispatch.MOSAIC_GPU, dispatch.TPU)
# What XLA would do around a kernel that cannot take its operands as they lie.
MOVES = ("stablehlo.transpose", "stablehlo.gather", "stablehlo.dot_general", "stablehlo.pad")


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
