import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress

GOLDEN = [0.5, -2, 0.1, 3, -1.5, 0, 1, -0.2]


@functools.partial(jax.jit, static_argnums=1)
def run(u, density):
    compressor = compress.sparse_ternary(density)
    return compressor.compress(u, compressor.init(u))[0]


def payload_of(u, density):
    return run(jnp.asarray(u, jnp.float32), density)


def oracle(u, k):
    kept = np.argsort(-np.abs(u), kind="stable")[:k]
    s = np.zeros_like(u)
    s[kept] = np.abs(u[kept]).mean() * np.sign(u[kept])
    return s


def test_golden_values():
    np.testing.assert_allclose(payload_of(GOLDEN, 2 / 8).to_dense(), [0, -2.5, 0, 2.5, 0, 0, 0, 0])
    size = 2.166667
    np.testing.assert_allclose(
        payload_of(GOLDEN, 3 / 8).to_dense(), [0, -size, 0, size, -size, 0, 0, 0], rtol=1e-6
    )


def test_contraction_by_its_formula_and_bits():
    rng = np.random.default_rng(0)
    for _ in range(5):
        u = rng.standard_normal(1000).astype(np.float32)
        payload = payload_of(u, 0.01)
        s = np.asarray(payload.to_dense())
        np.testing.assert_allclose(s, oracle(u, 10), rtol=1e-5)
        left, norm = ((u - s) ** 2).sum(), (u**2).sum()
        assert left == pytest.approx(norm - 10 * float(payload.mean) ** 2, rel=1e-4)
        sections = {name: int(bits) for name, bits in payload.sections().items()}
        assert (sections["signs"], sections["mean"]) == (10, 32)
        # b = 6 at a density of .01; unary parts are shorter than n / 2^b in all.
        assert 10 * 7 <= sections["positions"] <= 10 * 7 + 1000 // 64
        assert int(payload.payload_bits()) == sections["positions"] + 10 + 32


@pytest.mark.parametrize(
    ("u", "expected"), [([0.0] * 4, [0] * 4), ([0, -3.0, 0, 0], [0, -3, 0, 0]), ([2.0], [2])]
)
def test_zeros_are_never_sent(u, expected):
    payload = payload_of(u, 0.5)
    assert payload.to_dense().tolist() == expected
    assert int(payload.count) == np.count_nonzero(u)


def server(density, rounds, feeds):
    """methods.md 4, both directions, step by step."""
    clients = len(feeds[0])
    r_i, r, updates = np.zeros_like(feeds[0]), np.zeros_like(feeds[0][0]), []
    k = max(1, round(density * r.size))
    for t in range(rounds):
        u = r_i + feeds[t]
        s = np.stack([oracle(u[i], k) for i in range(clients)])
        r_i = u - s
        whole = r + s.mean(0)
        updates.append(oracle(whole, k))
        r = whole - updates[-1]
    return updates, r_i, r


def test_both_ways_is_the_papers_client_and_server():
    feeds = np.random.default_rng(1).standard_normal((4, 4, 20)).astype(np.float32)
    compressor = compress.both_ways(compress.sparse_ternary(0.2), compress.sparse_ternary(0.2))
    tx = compress.exchange(compressor, axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros((4, 20)))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    expected, r_i, r = server(0.2, 4, feeds)
    total = 0
    for t in range(4):
        updates, states = step(jnp.asarray(feeds[t]), states)
        np.testing.assert_array_equal(updates, np.broadcast_to(updates[:1], (4, 20)))
        np.testing.assert_allclose(updates[0], expected[t], rtol=1e-4, atol=1e-5)
        total = total + updates[0]
    np.testing.assert_allclose(states.memory.residual, r_i, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(states.compressor.residual[2], r, rtol=1e-4, atol=1e-5)
    # Nothing is lost on either way.
    held = states.compressor.residual[0] + states.memory.residual.mean(0)
    np.testing.assert_allclose(feeds.sum(0).mean(0), total + held, rtol=1e-4, atol=1e-5)
    assert int(states.compressor.down_bits.low[0]) > 4 * (4 + 32)
    assert step._cache_size() == 1


def test_another_compressor_may_come_down():
    u = {"a": jnp.array([3.0, 2.5]), "b": jnp.array([1.0, 0.5])}
    tx = compress.exchange(compress.both_ways(compress.top_k(1.0), compress.global_top_k(0.5)))
    updates, state = jax.jit(tx.update)(u, tx.init(u))
    assert updates["a"].tolist() == [3.0, 2.5] and not updates["b"].any()
    assert state.compressor.residual["b"].tolist() == [1.0, 0.5]
    with pytest.raises(TypeError, match=r"down=0\.01: give one of"):
        compress.both_ways(compress.top_k(0.1), 0.01)


def test_recipe_waits_for_the_exchange_and_learns():
    target = jnp.asarray(np.random.default_rng(2).standard_normal(12), jnp.float32)
    tx = compress.stc(0.25, optax.sgd(0.1), every=2, axis_name="workers")

    def train(start):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params - target, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), (params, state.ledger.payload_bits.low)

        return jax.lax.scan(step, (start, tx.init(start)), None, 400)[1]

    params, bits = jax.jit(jax.vmap(train, axis_name="workers"))(jnp.zeros((3, 12)))
    assert bits[0, 0] == 0 and bits[0, 1] > 0
    np.testing.assert_allclose(params[1, -1], target, atol=0.05)


def test_what_moves_is_what_goes_up():
    up = compress.random_k(0.25, jax.random.key(0))
    g = jnp.arange(64.0).reshape(4, 16)
    moved = []
    for compressor in (up, compress.both_ways(up, compress.sparse_ternary(0.5))):
        tx = compress.exchange(compressor, axis_name="workers")
        _, states = jax.vmap(tx.update, axis_name="workers")(g, jax.vmap(tx.init)(g))
        moved.append(compress.report(states)["moved_bytes"])
    # Four values of four bytes, once and a half around the ring, from each of four workers.
    assert moved == [4 * 24, 4 * 24]
