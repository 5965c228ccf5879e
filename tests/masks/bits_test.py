"""Packed masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.masks.bits import pack, packed_shape, unpack


@pytest.mark.parametrize("shape", [(1,), (8,), (13,), (1, 1), (8, 3), (9, 4), (3, 3, 5, 2), (0, 4)])
@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
def test_masks_come_back(shape, density):
    mask = jax.random.uniform(jax.random.key(len(shape)), shape) < density
    packed = pack(mask)
    assert packed.shape == packed_shape(shape) and packed.dtype == jnp.uint8
    np.testing.assert_array_equal(unpack(packed, shape), mask)


def test_zeros_are_a_mask_without_a_weight():
    assert not unpack(jnp.zeros(packed_shape((9, 4)), jnp.uint8), (9, 4)).any()
