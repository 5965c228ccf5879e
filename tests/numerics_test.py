"""Density, accumulation dtypes, and the guard against non-finite increments."""

import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import numerics


@pytest.mark.parametrize("density", [0, -1, 1.01, 20, float("nan")])
def test_density_names_the_cure(density: float) -> None:
    with pytest.raises(ValueError, match=r"fraction kept, so 4% is 0.04"):
        numerics.check_density(density)


def test_accumulators_are_at_least_float32() -> None:
    assert numerics.accumulator_dtype(jnp.bfloat16) == np.float32
    assert numerics.accumulator_dtype(jnp.float32) == np.float32
    assert numerics.accumulator_dtype(np.float64) == np.float64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_witness_stops_the_increment(bad: float) -> None:
    increment = jnp.array([1.0, 2.0])
    assert numerics.keep_if_finite(increment, jnp.array([0.0, 1.0])).tolist() == [1.0, 2.0]
    assert numerics.keep_if_finite(increment, jnp.array([0.0, bad])).tolist() == [0.0, 0.0]
    # inf and -inf must not cancel unseen
    assert numerics.keep_if_finite(increment, jnp.array([np.inf, -np.inf])).tolist() == [0.0, 0.0]
