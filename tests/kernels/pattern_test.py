"""Patterns order as magnitudes do, for every 16-bit value and for awkward wider ones."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from sparsetrain import selection
from sparsetrain.kernels import pattern


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_16_bit_value(dtype) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    patterns = np.asarray(jax.jit(selection.magnitude_patterns)(jnp.asarray(values)))
    wide = np.abs(values.astype(np.float32))
    np.testing.assert_array_equal(
        patterns, np.where(np.isnan(wide), pattern.FLOAT32_NAN, wide.view(np.int32))
    )
    back = np.asarray(selection.magnitude_of(jnp.asarray(patterns)))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(wide))
    assert (back.view(np.int32) == wide.view(np.int32))[~np.isnan(wide)].all()


def test_nans_are_alike_and_largest() -> None:
    nans = np.array([0x7FC00000, 0x7F800001, -1, 0x7FFFFFFF], np.int32).view(np.float32)
    patterns = selection.magnitude_patterns(jnp.asarray(nans))
    assert set(patterns.tolist()) == {pattern.FLOAT32_NAN}
    assert int(selection.magnitude_patterns(jnp.float32(np.inf))) < pattern.FLOAT32_NAN


def test_float64_where_it_is_enabled() -> None:
    with jax.enable_x64(True):
        values = jnp.array([1.0, -1.0 - 2.0**-50, 5e-324, jnp.nan], jnp.float64)
        patterns = selection.magnitude_patterns(values)
        assert patterns.dtype == jnp.int64
        assert np.argsort(np.asarray(patterns)).tolist() == [2, 0, 1, 3]
        assert selection.magnitude_of(patterns)[1] == -values[1]
        with pytest.raises(ValueError, match="float32', 'float64"):
            pattern.pattern_dtype(values, jnp.ones(2, jnp.float32))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="jax_enable_x64"):
        pattern.pattern_dtype(np.ones(2, np.float64))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype int32"):
        pattern.pattern_dtype(jnp.ones(2, jnp.int32))
