import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress


def workers(tx, params, gradients):
    """One update on every simulated worker; gradients have a leading worker axis."""
    count = jax.tree.leaves(gradients)[0].shape[0]
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), params)
    states = jax.vmap(tx.init)(stacked)
    step = jax.jit(jax.vmap(lambda g, s, p: tx.update(g, s, p), axis_name="workers"))
    return lambda state=states, g=gradients: step(g, state, stacked)


def test_workers_agree_on_the_mean_of_what_they_sent():
    rng = np.random.default_rng(0)
    g = {"w": jnp.asarray(rng.standard_normal((4, 20)), jnp.float32)}
    compressor = compress.top_k(0.2)
    tx = compress.exchange(compressor, axis_name="workers")
    updates, states = workers(tx, {"w": jnp.zeros(20)}, g)()
    sent = []
    for worker in range(4):
        u = {"w": g["w"][worker]}
        payload, _ = compressor.compress(u, compressor.init(u))
        sent.append(compressor.decompress(payload)["w"])
        np.testing.assert_allclose(
            states.memory.residual["w"][worker], u["w"] - sent[-1], rtol=1e-6
        )
    for worker in range(4):
        np.testing.assert_allclose(updates["w"][worker], np.mean(sent, axis=0), rtol=1e-6)


def test_density_one_is_the_dense_mean():
    g = {"w": jnp.arange(12.0).reshape(4, 3)}
    tx = compress.exchange(compress.top_k(1.0), axis_name="workers")
    updates, states = workers(tx, {"w": jnp.zeros(3)}, g)()
    np.testing.assert_allclose(updates["w"][0], g["w"].mean(0), rtol=1e-6)
    assert not states.memory.residual["w"].any()


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_worker_with_a_non_finite_gradient_is_silent(bad):
    g = {"w": jnp.ones((2, 6)).at[1, 0].set(bad)}
    tx = compress.exchange(compress.top_k(0.5), axis_name="workers")
    run = workers(tx, {"w": jnp.zeros(6)}, {"w": jnp.ones((2, 6))})
    _, before = run()
    updates, after = run(before, g)
    assert np.isfinite(updates["w"]).all()
    np.testing.assert_array_equal(updates["w"][0], [0, 0, 0, 2, 2, 2])  # The mean over who spoke.
    np.testing.assert_array_equal(after.memory.residual["w"][1], before.memory.residual["w"][1])
    assert after.nonfinite.tolist() == [0, 1]
    sent = compress.report(after)
    # Three values, and positions 3, 4 and 5 with b = 0: six bits. The other worker: nothing.
    assert sent["bits_this_step"] == 3 * 32 + 6


def test_works_behind_clipping_and_before_adam():
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), compress.exchange(compress.top_k(0.5)), optax.adam(0.1)
    )
    params = {"w": jnp.ones(4)}
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(params, state, params, value=jnp.float32(1.0))
        params = optax.apply_updates(params, updates)
    assert float(params["w"].sum()) < 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress.exchange(0.01), "compressor=0.01: give one of sparsetrain.compress"),
        (lambda: compress.exchange(compress.top_k(0.1), 0.9), "memory=0.9: give residual"),
        (
            lambda: compress.exchange(compress.top_k(0.1)).init({"steps": jnp.zeros(3, jnp.int32)}),
            "leaf 'steps' has dtype int32",
        ),
    ],
)
def test_errors_name_the_cure(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_ratio_and_totals():
    tx = compress.exchange(compress.top_k(0.01))
    params = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(10, jnp.bfloat16)}
    state = tx.init(params)
    assert compress.report(state)["compression_ratio"] == float("inf")
    step = jax.jit(tx.update)
    g = {"w": jnp.ones((100, 100)), "b": jnp.ones(10, jnp.bfloat16)}
    total = 0
    for number in range(1, 4):
        _, state = step(g, state, params)
        report = compress.report(state)
        assert report["dense_bits"] == number * (32 * 10_000 + 16 * 10)
        # 100 neighbours of the matrix with b = 6: 7 bits each, and one bit for every 64 entries
        # that were skipped before; one entry of ten with b = 3.
        skipped = 100 * (number - 1) // 64
        assert report["bits_this_step"] == 100 * (32 + 7) + skipped + (32 + 4)
        total += report["bits_this_step"]
        assert report["bits_sent"] == total
    ratio = float(compress.compression_ratio(state.ledger))
    assert ratio == pytest.approx(report["compression_ratio"])


def test_totals_beyond_ten_to_the_fifteen_survive():
    from sparsetrain.payload import BitCount

    tx = compress.exchange(compress.top_k(1.0))
    state = tx.init(jnp.zeros(4))
    state = state._replace(ledger=state.ledger._replace(payload_bits=BitCount.of(10**15)))
    _, state = jax.jit(tx.update)(jnp.ones(4), state)
    assert compress.report(state)["bits_sent"] == 10**15 + 4 * 32 + 4
