"""What `data_parallel_test.py` runs on four devices: workers on devices do what simulated ones do."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import compress, runtime

WORKERS, STEPS = 4, 6
SHAPES = {"kernel": (24, 10), "bias": (10,)}


def loss(params, batch):
    x, y = batch
    return jnp.mean((x @ params["kernel"] + params["bias"] - y) ** 2)


def begin():
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def batches():
    rng = np.random.default_rng(8)
    shapes = ((WORKERS * 2, 24), (WORKERS * 2, 10))
    for _ in range(STEPS):
        yield tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def by_exchange(compressor, memory=None):
    sending = compress.exchange(compressor, memory, axis_name="workers")
    return optax.chain(sending, optax.adam(1e-2))


METHODS = {
    "top_k": lambda: by_exchange(compress.top_k(0.1)),
    "dense because it moves less": lambda: by_exchange(compress.top_k(0.6)),
    "global_top_k": lambda: by_exchange(compress.global_top_k(0.1)),
    "layerwise": lambda: by_exchange(compress.layerwise(0.1)),
    "random_k": lambda: by_exchange(compress.random_k(0.1, jax.random.key(0))),
    "leader_top_k": lambda: by_exchange(compress.leader_top_k(0.1)),
    "global_merge_top_k": lambda: by_exchange(compress.global_merge_top_k(0.1)),
    # With and without new thresholds and regions.
    "ok_top_k": lambda: by_exchange(compress.ok_top_k(0.1, exact_every=2, regions_every=3)),
    "sparse_ternary": lambda: by_exchange(compress.sparse_ternary(0.1)),
    "sign": lambda: by_exchange(compress.sign(), compress.no_memory()),
    "low_rank": lambda: by_exchange(
        compress.low_rank(2, key=jax.random.key(1), min_compression_rate=1.0)
    ),
    "local_steps": lambda: compress.local_steps(
        optax.adam(1e-2),
        3,
        compress.sparse_binary(0.1),
        optax.sgd(0.7, momentum=0.9, nesterov=True),
        axis_name="workers",
    ),
}


def on_devices(tx, explicit):
    """Parameters agreed upon, and the ledger, after some steps."""
    run = runtime.data_parallel(loss, tx, runtime.worker_mesh(explicit=explicit))
    trained = run.init(begin())
    for batch in batches():
        trained, _ = run.step(trained, run.place(batch))
    return run.params(trained), trained.opt_state


def simulated(tx):
    """The same by `vmap`."""

    def step(params, state, batch):
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda leaf: np.stack([leaf] * WORKERS), begin())
    state = jax.vmap(tx.init)(params)
    step = jax.jit(jax.vmap(step, axis_name="workers"))
    for batch in batches():
        rows = jax.tree.map(lambda leaf: leaf.reshape(WORKERS, -1, *leaf.shape[1:]), batch)
        params, state = step(params, state, rows)
    return jax.tree.map(lambda leaf: leaf[0], params), state


def check(name):
    apart, by_vmap = simulated(METHODS[name]())
    for explicit in (False, True):
        together, by_devices = on_devices(METHODS[name](), explicit)
        # Sums over workers may be taken in another order, and moments pass the difference on.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), together, apart
        )
        assert compress.report(by_devices) == compress.report(by_vmap)


def each_gradient_is_its_own():
    """A compressor that notes what it sees, without an exchange: rows, not their sum."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    seen = optax.GradientTransformation(init, lambda g, state, params=None: (g, g))
    tx = optax.chain(seen, compress.exchange(compress.top_k(0.5), axis_name="workers"))
    run = runtime.data_parallel(lambda w, x: jnp.vdot(w, x[0]), tx, runtime.worker_mesh())
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    trained, value = run.step(run.init(np.ones(3, np.float32)), run.place(rows))
    np.testing.assert_array_equal(trained.opt_state[0], rows)
    assert float(value) == rows.sum() / 4


def who_is_not_finite_is_left_out():
    tx = optax.chain(compress.exchange(compress.top_k(1.0), axis_name="workers"), optax.sgd(1.0))
    run = runtime.data_parallel(lambda w, x: jnp.vdot(w, x[0]), tx, runtime.worker_mesh())
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows[2, 1] = np.nan
    trained, _ = run.step(run.init(np.zeros(3, np.float32)), run.place(rows))
    np.testing.assert_allclose(trained.params, -rows[[0, 1, 3]].mean(0), rtol=1e-6)
    assert trained.opt_state[0].nonfinite.tolist() == [0, 0, 1, 0]


def messages_of_many_tensors_travel_together():
    tx = optax.chain(compress.exchange(compress.top_k(0.01), axis_name="workers"), optax.sgd(1.0))

    def loss(params, batch):
        return jnp.mean(batch) * sum(jnp.sum(leaf) for leaf in params)

    run = runtime.data_parallel(loss, tx, runtime.worker_mesh())
    trained = run.init([np.zeros((32, 32), np.float32) for _ in range(10)])
    batch = run.place(np.ones((4, 1), np.float32))
    text = jax.jit(run.step).lower(trained, batch).compile().as_text()
    assert len(re.findall(r" all-gather(-start)?\(", text)) == 1


def ok_top_k_moves_its_slots_and_a_few_counts():
    """The optimized program: nothing as long as the tensor crosses devices, and nothing is sorted."""
    size, k = 20_000, 200
    tx = compress.exchange(compress.ok_top_k(k / size), axis_name="workers")

    def send(rows, state):
        held = jax.tree.map(lambda leaf: leaf[0], state)
        updates, after = tx.update(rows[0], held)
        return updates, jax.tree.map(lambda leaf: leaf[None], after)

    mesh = runtime.worker_mesh()
    rows, same = jax.sharding.PartitionSpec("workers"), jax.sharding.PartitionSpec()
    specs = {"in_specs": (rows, rows), "out_specs": (same, rows)}
    gradients = jnp.zeros((WORKERS, size))
    states = jax.vmap(tx.init)(gradients)
    mapped = jax.jit(jax.shard_map(send, mesh=mesh, **specs))
    program = mapped.lower(gradients, states).compile().as_text()
    room = 3 * k // (2 * WORKERS)
    entries = {}
    for line in program.splitlines():
        found = re.search(
            r"= (.*?) (all-[a-z-]+?|sort|collective-[a-z-]+?|reduce-scatter)(-start)?\(", line
        )
        if found:
            shapes = re.findall(r"\w+\[([\d,]*)\]", found[1])
            counts = [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]
            entries.setdefault(found[2], []).extend(counts)
    assert set(entries) <= {"all-to-all", "all-gather", "all-reduce", "sort"}, entries
    assert set(entries["all-to-all"]) <= {room, WORKERS * room}
    assert set(entries["all-gather"]) == {WORKERS * room}
    assert max(entries["all-reduce"]) <= 2 * 257  # quantiles, in some rounds
    assert max(entries.get("sort", [0])) <= 2 * WORKERS * room


CHECKS = {name: lambda name=name: check(name) for name in METHODS} | {
    "gradients": each_gradient_is_its_own,
    "ok_top_k's program": ok_top_k_moves_its_slots_and_a_few_counts,
    "not finite": who_is_not_finite_is_left_out,
    "together": messages_of_many_tensors_travel_together,
}

if __name__ == "__main__":
    assert jax.device_count() == WORKERS
    for name, run_check in CHECKS.items():
        run_check()
        print(f"passed: {name}", flush=True)
