import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsetrain.payload import golomb_parameter, parameter_of_count, position_bits


@pytest.mark.parametrize(
    ("density", "b"),
    [(0.25, 1), (0.1, 3), (0.05, 4), (0.01, 6), (0.0025, 8), (0.001, 9), (0.0001, 13)],
)
def test_table_of_the_paper_and_the_true_optimum(density, b):
    assert golomb_parameter(density) == b

    def mean_bits(b):
        return b + 1 / (1 - (1 - density) ** (2**b))

    assert min(range(20), key=mean_bits) == b


@pytest.mark.parametrize("density", [0.5, 0.7, 0.99, 1.0])
def test_never_negative(density):
    assert golomb_parameter(density) == 0


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_density_out_of_range(density):
    with pytest.raises(ValueError, match=f"density={density}"):
        golomb_parameter(density)


@given(st.integers(1, 2**31 - 1), st.floats(0.0, 1.0))
def test_measured_parameter_is_as_good_as_the_formula(entries, share):
    count = max(1, min(entries, round(share * entries)))
    b = int(parameter_of_count(jnp.int32(count), entries))
    exact = golomb_parameter(count / entries)
    # Float32 may land on the other side of a boundary, where both codes are equally long.
    p = min(count / entries, 1 - 1e-9)

    def bits(b):
        return b + 1 / -math.expm1(2**b * math.log1p(-p))

    assert b == exact or bits(b) == pytest.approx(bits(exact), rel=1e-3)


def test_nothing_and_everything():
    assert int(parameter_of_count(jnp.int32(0), 10)) == 0
    assert int(parameter_of_count(jnp.int32(10), 10)) == 0


@given(st.sets(st.integers(0, 5000), max_size=60), st.integers(0, 8), st.integers(0, 3))
def test_length_is_the_formula(positions, b, spare):
    rising = sorted(positions)
    gaps = np.diff(rising, prepend=-1)
    expected = sum((int(gap) - 1) // 2**b + 1 + b for gap in gaps)
    slots = np.array(rising + [6000 + i for i in range(spare)], np.int32)
    assert int(position_bits(jnp.asarray(slots), jnp.int32(len(rising)), b)) == expected
