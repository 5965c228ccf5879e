import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress
from sparsetrain.compress import density


def test_warm_up_of_dgc():
    schedule = compress.warm_up(0.25, 0.001, epochs=4, steps_per_epoch=3).schedule
    found = [float(schedule(3 * epoch)) for epoch in range(6)]
    np.testing.assert_allclose(found, [0.25, 0.0629, 0.0158, 0.00398, 0.001, 0.001], rtol=1e-2)
    # The reference code's form: final^((e+1)/(E+1)).
    code = compress.warm_up(0.001 ** (1 / 5), 0.001, epochs=4, steps_per_epoch=1).schedule
    np.testing.assert_allclose(
        [float(code(e)) for e in range(4)], [0.001 ** ((e + 1) / 5) for e in range(4)], rtol=1e-5
    )


def test_warm_up_from_a_list():
    table = compress.warm_up([0.25, 0.0625, 0.015625, 0.004], 0.001, steps_per_epoch=2)
    assert [round(float(table.schedule(2 * e)), 6) for e in range(5)] == [
        0.25,
        0.0625,
        0.015625,
        0.004,
        0.001,
    ]
    assert table.largest == 0.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress.warm_up(0.25, 0.001, steps_per_epoch=1), "epochs=None"),
        (lambda: compress.warm_up([0.25], 0.001, epochs=3, steps_per_epoch=1), "epochs=3"),
        (lambda: compress.warm_up(0.25, 0.001, epochs=3, steps_per_epoch=0), "steps_per_epoch=0"),
        (lambda: compress.warm_up(2.0, 0.001, epochs=3, steps_per_epoch=1), "initial=2.0"),
        (lambda: compress.scheduled(lambda step: 0.1, largest=2.0), "largest=2.0"),
        (lambda: compress.top_k(lambda step: 0.1), "compress.scheduled"),
        (lambda: compress.top_k(0.0), r"density=0.0: must lie in \(0, 1\]"),
    ],
)
def test_errors_name_the_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_density_is_refused():
    def make(rate):
        return compress.top_k(density=rate).density

    with pytest.raises(ValueError, match="density is traced"):
        jax.jit(make)(0.1)
    # So inject_hyperparams has to mean the inner optimizer.
    with pytest.raises(ValueError, match="density is traced"):
        wrapped = optax.inject_hyperparams(
            lambda density: compress.exchange(compress.top_k(density))
        )(density=0.1)
        wrapped.init(jnp.zeros(3))


def test_capacity_is_the_largest_count_and_the_count_is_data():
    table = compress.warm_up(0.5, 0.1, epochs=2, steps_per_epoch=1)
    assert density.capacity(table, 20) == 10
    assert [int(density.count_at(table, 20, jnp.int32(step))) for step in (0, 1, 2, 9)] == [
        10,
        4,
        2,
        2,
    ]


@pytest.mark.parametrize("make", [compress.top_k, compress.global_top_k, compress.sparse_binary])
def test_scheduled_payloads_count_only_used_slots(make):
    u = {"a": jnp.linspace(0.1, 2.0, 20), "b": jnp.linspace(0.1, 1.0, 20)}
    compressor = make(compress.warm_up(0.5, 0.1, epochs=1, steps_per_epoch=1))
    fixed = [make(0.5), make(0.1)]
    state = compressor.init(u)
    run = jax.jit(compressor.compress)
    for step in range(2):
        payload, state = run(u, state)
        expected, _ = fixed[step].compress(u, fixed[step].init(u))
        a, b = compressor.decompress(payload), fixed[step].decompress(expected)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
    assert run._cache_size() == 1
