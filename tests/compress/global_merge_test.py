import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress


def top(v, k):
    kept = np.argsort(-np.abs(v), kind="stable")[:k]
    out = np.zeros_like(v)
    out[kept] = v[kept]
    return out


def oracle(u, k):
    """The merged vector, and which entries of each worker are in it: the tree, node by node."""
    power = 2 ** int(np.log2(len(u)))
    nodes = [(top(row, k), {i: top(row, k) != 0}) for i, row in enumerate(u)]

    def merged(a, b):
        whole = top(a[0] + b[0], k)
        return whole, {i: mask & (whole != 0) for i, mask in (a[1] | b[1]).items()}

    for i in range(power, len(u)):
        nodes[i - power] = merged(nodes[i - power], nodes[i])
    nodes = nodes[:power]
    while len(nodes) > 1:
        nodes = [merged(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
    whole, masks = nodes[0]
    accepted = np.stack([np.where(masks[i], top(row, k), 0) for i, row in enumerate(u)])
    return whole, accepted


@pytest.mark.parametrize("workers", [1, 3, 4, 7])
def test_merges_as_the_tree_does_and_nothing_is_lost(workers):
    rng = np.random.default_rng(workers)
    size, k = 24, 4
    tx = compress.exchange(compress.global_merge_top_k(k / size), axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros((workers, 4, 6)))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    residual = np.zeros((workers, size), np.float32)
    for _ in range(4):
        # Alike, so that positions meet; small integers, so that sums are exact and ties occur.
        common = rng.integers(-9, 10, size)
        g = (common + rng.integers(-4, 5, (workers, size))).astype(np.float32)
        updates, states = step(jnp.asarray(g).reshape(workers, 4, 6), states)
        whole, accepted = oracle(residual + g, k)
        np.testing.assert_allclose(
            updates.reshape(workers, size), np.stack([whole / workers] * workers), rtol=1e-6
        )
        assert np.count_nonzero(updates[0]) == k
        np.testing.assert_array_equal(accepted.sum(0), whole)
        residual = residual + g - accepted
        np.testing.assert_array_equal(states.memory.residual.reshape(workers, size), residual)
    assert step._cache_size() == 1


def test_what_was_dropped_early_goes_back_though_others_bring_its_position():
    # In the first pair the 5 beats the 4 at position 0; in the second position 0 wins.
    u = jnp.array([[4.0, 0, 0], [0, 5.0, 0], [9.0, 0, 0], [8.0, 0, 0]])
    tx = compress.exchange(compress.global_merge_top_k(1 / 3), axis_name="workers")
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    updates, states = step(u, jax.vmap(tx.init)(u))
    assert updates[0].tolist() == [17 / 4, 0, 0]
    assert states.memory.residual.tolist() == [[4, 0, 0], [0, 5, 0], [0, 0, 0], [0, 0, 0]]


def test_silence_and_zeros_are_merged_like_anything():
    u = jnp.zeros((4, 6)).at[1].set(jnp.nan).at[2, 4].set(3.0)
    tx = compress.exchange(compress.global_merge_top_k(0.5), axis_name="workers")
    updates, states = jax.jit(jax.vmap(tx.update, axis_name="workers"))(
        u, jax.vmap(tx.init)(jnp.zeros((4, 6)))
    )
    np.testing.assert_allclose(updates, np.tile([0, 0, 0, 0, 1, 0], (4, 1)))  # Three spoke.
    assert not states.memory.residual.any()


def test_alone_it_is_top_k_and_a_schedule_moves_the_count():
    density = compress.scheduled(lambda step: jnp.where(step == 0, 0.5, 0.25), largest=0.5)
    tx = compress.exchange(compress.global_merge_top_k(density), axis_name="workers")
    g = jnp.tile(jnp.arange(1.0, 9.0), (2, 1))
    states = jax.vmap(tx.init)(g)
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    updates, states = step(g, states)
    assert np.flatnonzero(updates[0]).tolist() == [4, 5, 6, 7]
    updates, states = step(g, states)
    assert updates[1].tolist() == [0, 0, 0, 8, 0, 0, 0, 8]
    alone = compress.exchange(compress.global_merge_top_k(0.25))
    assert alone.update(g[0], alone.init(g[0]))[0].tolist() == [0] * 6 + [7, 8]
