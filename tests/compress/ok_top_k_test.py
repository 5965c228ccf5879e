"""Ok-Topk against a plain walk of its rounds in NumPy, and what it promises besides."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from sparsetrain import compress
from sparsetrain.compress import regions
from tests.compress.ok_top_k_oracle import Oracle

SHAPES = {"a": (7, 11), "empty": (0, 3), "b": (), "c": (40,), "d": (82,)}
SIZE = 200


def tree(flat):
    """Rows [W, N] as a tree of tensors [W, ...]."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])
    parts = np.split(flat, ends[:-1], axis=1)
    return {
        name: jnp.asarray(part).reshape(flat.shape[0], *shape)
        for (name, shape), part in zip(SHAPES.items(), parts, strict=True)
    }


def joined(values):
    """The inverse of `tree`."""
    rows = [np.asarray(values[name]) for name in SHAPES]
    return np.concatenate([row.reshape(row.shape[0], -1) for row in rows], axis=1)


@functools.cache
def simulated(workers, density, **options):
    """A transformation for some workers, its first states and its compiled step."""
    compressor = compress.ok_top_k(density, **options)
    tx = compress.exchange(compressor, axis_name="workers")
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    return jax.vmap(tx.init)(tree(np.zeros((workers, SIZE), np.float32))), step


def drawn(rng, workers, integers=False):
    """Gradients that are alike: small integers, whose sums are exact and which tie, or any numbers."""
    if integers:
        common = rng.integers(-9, 10, SIZE)
        return (common + rng.integers(-4, 5, (workers, SIZE))).astype(np.float32)
    common = rng.standard_normal(SIZE)
    return (common + rng.standard_normal((workers, SIZE))).astype(np.float32)


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_rounds_are_those_of_a_plain_walk(workers, integers):
    rng = np.random.default_rng(workers)
    k, options = 24, {"exact_every": 3, "regions_every": 4}
    oracle = Oracle(workers, SIZE, k, **options)
    states, step = simulated(workers, k / SIZE, **options)
    for _ in range(8):
        g = drawn(rng, workers, integers)
        mean, _, _ = oracle.step(g)
        updates, states = step(tree(g), states)
        np.testing.assert_allclose(joined(updates), np.stack([mean] * workers), rtol=1e-5)
        np.testing.assert_allclose(joined(states.memory.residual), oracle.residual, atol=1e-5)
        held = states.compressor
        np.testing.assert_allclose(held.local_threshold, oracle.local, rtol=1e-5)
        np.testing.assert_allclose(held.global_threshold, [oracle.threshold] * workers, rtol=1e-5)
        assert held.quantiles.tolist() == [oracle.quantiles] * workers
        # What has come too early or too late shows in the next round only.
        oracle.residual = joined(states.memory.residual)
        oracle.local, oracle.threshold = (
            np.array(held.local_threshold),
            np.asarray(held.global_threshold)[0],
        )
    assert step._cache_size() == 1


def test_the_result_is_what_reaches_the_threshold_of_all():
    """The k largest sums in a round of exact thresholds, where all find slots."""
    workers, k = 4, 40
    rng = np.random.default_rng(0)
    g = drawn(rng, workers)
    states, step = simulated(workers, k / SIZE)
    updates, states = step(tree(g), states)
    sent = np.where(np.abs(g) >= np.sort(np.abs(g))[:, -k][:, None], g, 0)
    sums = sent.sum(0)
    largest = np.sort(np.abs(sums))[-k]
    np.testing.assert_allclose(states.compressor.global_threshold, [largest] * workers, rtol=1e-6)
    np.testing.assert_allclose(
        joined(updates)[0],
        np.where(np.abs(sums) >= largest * (1 - 1e-6), sums, 0) / workers,
        rtol=1e-5,
    )


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    workers=st.sampled_from([2, 5]),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["dense", "few", "ties", "zeros", "scales"]),
)
def test_nothing_is_lost(workers, seed, kind):
    rng = np.random.default_rng(seed)
    states, step = simulated(workers, 0.1, exact_every=3, regions_every=2)
    fed = used = np.zeros(SIZE)
    for _ in range(4):
        g = drawn(rng, workers)
        if kind == "few":
            g = g * (rng.random(g.shape) < 0.02)
        if kind == "ties":
            g = np.sign(g)
        if kind == "zeros":
            g = g * (rng.random((workers, 1)) < 0.5)
        if kind == "scales":
            g = g * 10.0 ** rng.integers(-6, 6)
        g = g.astype(np.float32)
        updates, states = step(tree(g), states)
        rows = joined(updates)
        np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1], rows.shape))
        fed = fed + g.astype(np.float64).sum(0)
        used = used + workers * rows[0].astype(np.float64)
        left = joined(states.memory.residual).astype(np.float64).sum(0)
        scale = max(1e-6, np.abs(fed).max(), np.abs(left).max())
        np.testing.assert_allclose(used + left, fed, atol=1e-5 * scale * workers)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ties_and_zeros(value):
    """All entries alike in all workers: k of them a round, others in their turn."""
    workers, k = 4, 40
    states, step = simulated(workers, k / SIZE)
    g = np.full((workers, SIZE), value, np.float32)
    used = np.zeros(SIZE)
    for turn in range(3):
        updates, states = step(tree(g), states)
        count = np.count_nonzero(joined(updates)[0])
        assert count <= workers * (3 * k // (2 * workers))
        if turn == 0:
            assert count == (k if value else 0)
        used = used + joined(updates)[0]
    residual = joined(states.memory.residual)
    np.testing.assert_allclose(used + residual[0], 3 * value)


@pytest.mark.parametrize(
    ("factor", "scale", "least", "most"),
    [(1.0, 1.0, 40, 40), (0.8, 1 / 1.012, 1, 26), (1.18, 1.012, 51, 60)],
)
def test_a_local_threshold_follows_the_count(factor, scale, least, most):
    """Whoever suddenly has less, or more, to send than k = 40 moves it by one step."""
    first = drawn(np.random.default_rng(3), 4)
    states, step = simulated(4, 0.2)
    _, states = step(tree(first), states)
    # As if nothing were remembered, so that u is the same but for the factor.
    states = states._replace(memory=jax.tree.map(jnp.zeros_like, states.memory))
    before = np.asarray(states.compressor.local_threshold)
    counts = (np.abs(np.float32(factor) * first) >= before[:, None]).sum(1)
    assert ((counts >= least) & (counts <= most)).all()
    _, states = step(tree(np.float32(factor) * first), states)
    np.testing.assert_allclose(states.compressor.local_threshold, before * scale, rtol=1e-6)


def test_regions_follow_the_entries():
    """All mass in the first twentieth of the index space: even regions would hardly have room."""
    workers, size, k = 8, 4000, 80
    rng = np.random.default_rng(3)
    g = np.zeros((workers, size), np.float32)
    g[:, : size // 20] = rng.standard_normal(size // 20) + 0.3 * rng.standard_normal(
        (workers, size // 20)
    )
    compressor = compress.ok_top_k(k / size)

    def one_round(u, state):
        payload, state = compressor.compress(u, state)
        done = compressor.aggregate(payload, u, state, "workers")
        begins = regions.boundaries(done.state.quantiles, workers)
        return begins, payload.positions(), jnp.count_nonzero(done.mean)

    many = jax.jit(jax.vmap(one_round, axis_name="workers"))
    start = jax.vmap(compressor.init)(g)
    exact = jnp.asarray(np.sort(np.abs(g))[:, -k])
    used, held = {}, {}
    # In the first round regions are renewed; in the second one they are as at the start, even.
    for name, turn in (("renewed", 0), ("even", 1)):
        state = start._replace(step=start.step + turn, local_threshold=exact)
        begins, positions, counts = many(g, state)
        ends = [0, *np.asarray(begins)[0], size]
        held[name] = max(np.histogram(row, ends)[0].max() for row in np.asarray(positions))
        used[name] = int(counts[0])
    room = 3 * k // (2 * workers)
    assert held["renewed"] <= room and used["renewed"] >= 0.9 * k
    assert held["even"] == k and used["even"] <= 2 * room


@pytest.mark.parametrize("density", [0.001, 0.01, 1.0])
def test_fewer_than_six_k_words_leave_a_worker(density):
    size = 100_000
    k = round(density * size)
    compressor = compress.ok_top_k(density)

    def moved(u):
        payload, _ = compressor.compress(u, compressor.init(u))
        words.append([compressor.moved_bytes(payload, n) // 4 for n in many])

    words, many = [], [1, *range(2, 65), 3 * k // 2]
    jax.eval_shape(moved, jnp.zeros((size,)))
    assert words[0][0] == 0
    assert all(0 < each < 6 * k for each in words[0][1:])


def collectives_of(jaxpr):
    """(name, shapes of the operands) of every collective in a program, inner programs included."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(("all_", "psum", "pmax", "pmin", "ppermute")):
            yield eqn.primitive.name, tuple(each.aval.shape for each in eqn.invars)
        for inner in jaxprs_in_params(eqn.params):
            yield from collectives_of(inner)


def test_what_moves_is_what_is_counted():
    """On devices: an all-to-all and an all-gather of the slots, and otherwise a few counts."""
    size, k, workers = 10_000, 100, 4
    tx = compress.exchange(compress.ok_top_k(k / size), axis_name="workers")
    kind = jax.sharding.AxisType.Auto
    mesh = jax.sharding.AbstractMesh((workers,), ("workers",), axis_types=(kind,))
    rows, same = jax.sharding.PartitionSpec("workers"), jax.sharding.PartitionSpec()

    def send(g):
        return tx.update(g[0], tx.init(g[0]))[0]

    mapped = jax.shard_map(send, mesh=mesh, in_specs=rows, out_specs=same)
    program = jax.make_jaxpr(mapped)(jax.ShapeDtypeStruct((workers, size), jnp.float32))
    found = list(collectives_of(program.jaxpr))
    room = 3 * k // (2 * workers)
    moves = [(name, shapes) for name, shapes in found if name.startswith("all_")]
    assert [shapes for name, shapes in moves if name.startswith("all_to_all")] == [
        ((workers, room),),
        ((workers, room),),
    ]
    assert [shapes for name, shapes in moves if name.startswith("all_gather")] == [
        ((room,),),
        ((room,),),
    ]
    counts = [shape for name, shapes in found if not name.startswith("all_") for shape in shapes]
    assert counts and max(int(np.prod(shape)) for shape in counts) == regions.PARTS + 1


def test_who_is_silent_is_left_out():
    workers, k = 3, 40
    g = drawn(np.random.default_rng(5), workers)
    states, step = simulated(workers, k / SIZE)
    broken = g.copy()
    broken[1, 7] = np.nan
    updates, after = step(tree(broken), states)
    assert after.nonfinite.tolist() == [0, 1, 0]
    others = np.delete(g, 1, axis=0) - np.delete(joined(after.memory.residual), 1, axis=0)
    np.testing.assert_allclose(joined(updates)[1], others.sum(0) / 2, atol=1e-6)
    assert np.count_nonzero(joined(updates)[0]) >= 0.8 * k
    assert not joined(after.memory.residual)[1].any()
    # The threshold that it found in zeros lets everything through: it looks again.
    updates, after = step(tree(g), after)
    assert np.count_nonzero(joined(updates)[0]) >= 0.5 * k
    assert (np.asarray(after.compressor.local_threshold) > 0.1).all()


def test_a_schedule_moves_the_count():
    density = compress.scheduled(lambda step: jnp.where(step == 0, 0.2, 0.1), largest=0.2)
    states, step = simulated(2, density, exact_every=1)
    g = tree(drawn(np.random.default_rng(6), 2))
    for count in (40, 20, 20):
        updates, states = step(g, states)
        assert 0.75 * count <= np.count_nonzero(joined(updates)[0]) <= count
    assert simulated(2, density, exact_every=1)[1]._cache_size() == 1


def test_alone_it_sends_what_reaches_its_threshold():
    tx = compress.exchange(compress.ok_top_k(0.25))
    g = jnp.array([4.0, -7.0, 1.0, 0.5, 0.1, 6.0, 2.0, 0.0])
    step = jax.jit(tx.update)
    updates, state = step(g, tx.init(g))
    assert updates.tolist() == [0, -7, 0, 0, 0, 6, 0, 0]
    updates, state = step(g, state)
    assert updates.tolist() == [8, -7, 0, 0, 0, 6, 0, 0]
    assert float(state.compressor.local_threshold) == pytest.approx(6 * 1.012)
    assert compress.report(state)["moved_bytes"] == 0


def test_least_squares_reaches_the_optimum():
    workers, features = 4, 50
    rng = np.random.default_rng(8)
    x = rng.standard_normal((workers, 80, features)).astype(np.float32)
    y = x @ rng.standard_normal(features).astype(np.float32)
    y = y + 0.1 * rng.standard_normal(y.shape).astype(np.float32)
    best = np.linalg.lstsq(x.reshape(-1, features), y.reshape(-1), rcond=None)[0]
    sending = compress.exchange(compress.ok_top_k(0.1), axis_name="workers")
    tx = optax.chain(sending, optax.sgd(0.05))

    def train(x, y):
        def step(held, _):
            w, state = held
            g = jax.grad(lambda w: 0.5 * jnp.mean((x @ w - y) ** 2))(w)
            updates, state = tx.update(g, state)
            return (optax.apply_updates(w, updates), state), None

        start = jnp.zeros(features)
        return jax.lax.scan(step, (start, tx.init(start)), None, length=2000)[0]

    w, state = jax.jit(jax.vmap(train, axis_name="workers"))(x, y)
    np.testing.assert_allclose(w, np.stack([best] * workers), atol=0.02)
    np.testing.assert_array_equal(w[0], w[3])
    assert compress.report(state)["compression_ratio"] > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0.0}, "density=0.0"),
        ({"density": 0.1, "exact_every": 0}, "exact_every=0: must be at least 1"),
        ({"density": 0.1, "regions_every": -1}, "regions_every=-1: must be at least 1"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        compress.ok_top_k(**options)
