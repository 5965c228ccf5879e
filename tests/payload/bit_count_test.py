import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsetrain.payload import BitCount, total

WIDE = st.integers(0, 2**63)


@given(WIDE, WIDE)
def test_addition_carries(a, b):
    if a + b < 2**64:
        assert int(BitCount.of(a).plus(BitCount.of(b))) == a + b


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_product_is_exact(count, each):
    assert int(BitCount.product(count, each)) == count * each


@given(WIDE)
def test_whole_bytes(bits):
    assert int(BitCount.of(bits).in_bytes()) == -(-bits // 8)


def test_ten_to_the_fifteen_and_beyond_in_jit():
    step = jax.jit(lambda count: count.plus(BitCount.product(jnp.uint32(3_000_000_000), 64)))
    count = BitCount.of(10**15)
    for _ in range(5):
        count = step(count)
    assert int(count) == 10**15 + 5 * 3_000_000_000 * 64
    assert step._cache_size() == 1
    assert float(count.to_float()) == pytest.approx(int(count), rel=1e-6)


def test_total_and_condition():
    counts = [BitCount.of(2**32 - 1), BitCount.of(1), BitCount.of(5)]
    assert int(total(counts)) == 2**32 + 5
    assert int(total(counts).if_true(jnp.bool_(False))) == 0


@pytest.mark.parametrize("number", [-1, 2**64])
def test_out_of_range(number):
    with pytest.raises(ValueError, match=f"number={number}"):
        BitCount.of(number)
