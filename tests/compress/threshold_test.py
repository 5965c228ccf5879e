import jax.numpy as jnp
import pytest

from sparsetrain import compress


def test_count_moves_and_capacity_holds():
    compressor = compress.hard_threshold(1.0, largest=0.5)
    for u, expected in [
        ([0.5, 0.2, -0.1, 0.0], []),
        ([1.0, 0.2, -3.0, 0.0], [0, 2]),
        ([1.0, 2.0, -3.0, 4.0], [2, 3]),  # Room for two: the largest.
    ]:
        u = jnp.array(u)
        payload, _ = compressor.compress(u, compressor.init(u))
        assert payload.indices[: int(payload.count)].tolist() == expected
        assert int(payload.count) == len(expected)


def test_small_entries_grow_until_they_are_sent():
    tx = compress.exchange(compress.hard_threshold(1.0, largest=1.0))
    state = tx.init(jnp.zeros(1))
    sent = []
    for _ in range(4):
        update, state = tx.update(jnp.array([0.4]), state)
        sent.append(round(float(update[0]), 3))
    assert sent == [0.0, 0.0, 1.2, 0.0]


def test_threshold_must_be_positive():
    with pytest.raises(ValueError, match="threshold=0"):
        compress.hard_threshold(0)
