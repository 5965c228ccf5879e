"""What `end_of_round_test.py` runs on four devices, or in two processes: P-GaP there is P-GaP by `vmap`."""

import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from sparsetrain import masks, runtime

DEVICES, ROUNDS, STEPS = 4, 2, 3
ROWS, WIDTH, DENSITY = 4, 8, 0.25
NAMES = "abcd"


def quick_jit(function):
    # Not above: the registry makes a key, and then it is too late to join other processes.
    from tests.masks import registry

    return registry.quick_jit(function)


class Blocks(nn.Module):
    """Four layers with biases, scales and running statistics."""

    @nn.compact
    def __call__(self, x):
        for name in NAMES:
            x = nn.Dense(WIDTH, name=name, dtype=x.dtype)(x)
            norm = nn.BatchNorm(False, momentum=0.5, name=f"norm_{name}", dtype=x.dtype)
            x = nn.relu(norm(x)) + x
        return x


def partitions_of(kappa):
    """Contiguous layers, each with its norm."""
    shares = [NAMES[i * 4 // kappa : (i + 1) * 4 // kappa] for i in range(kappa)]
    return masks.partitions({share: rf"(norm_)?[{share}]/.*" for share in shares})


def optimizer(parts, axis_name, others=()):
    """Momentum; workers of one partition take the mean of their gradients."""
    mean = optax.stateless(lambda g, _: jax.lax.pmean(g, others) if others else g)
    return masks.grow_and_prune(
        optax.chain(mean, optax.sgd(0.125, momentum=0.5)),
        DENSITY,
        parts,
        steps_per_phase=STEPS,
        phases=ROUNDS,
        key=jax.random.key(3),
        order="parallel",
        axis_name=axis_name,
    )


def loss(params, variables, batch):
    found, variables = Blocks().apply({"params": params, **variables}, batch, mutable=[*variables])
    return jnp.mean((found - 1.0) ** 2), variables


@functools.cache
def begin():
    variables = quick_jit(Blocks().init)(jax.random.key(0), jnp.ones((ROWS, WIDTH)))
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
    return variables["params"], {"batch_stats": variables["batch_stats"]}


def batches(workers):
    rng = np.random.default_rng(4)
    for _ in range(ROUNDS * STEPS):
        yield rng.standard_normal((workers * ROWS, WIDTH))


def on_devices(mesh, names, parts, tx):
    """`Trained` after each round, in rows of all workers, whosever process they are in."""
    workers = mesh.devices.size
    share = workers // jax.process_count() * ROWS
    own = slice(share * jax.process_index(), share * (jax.process_index() + 1))
    run = runtime.data_parallel(loss, tx, mesh, axis_name=names, apart=True)
    trained = run.init(*begin())
    trained = trained._replace(params=masks.apply(trained.params, trained.opt_state))
    together = runtime.end_of_round(run, parts)
    for number, batch in enumerate(batches(workers), 1):
        trained, _ = run.step(trained, run.place(batch[own]))
        if number % STEPS == 0:
            trained = together(trained)
            yield jax.tree.map(everywhere, trained)
    assert together._cache_size() == 1 and run._compiled._cache_size() == 1


def everywhere(leaf):
    """The whole of an array, also where other processes hold some of it."""
    if leaf.is_fully_addressable:
        return np.asarray(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)


def simulated(grid, parts, tx, axis, other):
    """The same by `vmap`, of partitions within workers."""
    each = functools.partial(jax.vmap, axis_name=axis)
    if other:
        inner = each
        each = lambda function: jax.vmap(inner(function), axis_name=other)  # noqa: E731

    params, variables = begin()

    def start(batch):
        del batch
        state = tx.init(params)
        return masks.apply(params, state), state, variables

    def step(held, batch):
        params, state, variables = held
        (_, variables), g = jax.value_and_grad(loss, has_aux=True)(params, variables, batch)
        moves, state = tx.update(g, state, params)
        return optax.apply_updates(params, moves), state, variables

    def together(held):
        params, state, variables = held
        found, state = masks.combine({"params": params, **variables}, state, parts, axis)
        stats = found["batch_stats"]
        stats = jax.lax.pmean(stats, other) if other else stats
        return found["params"], state, {"batch_stats": stats}

    start, step, together = (quick_jit(each(part)) for part in (start, step, together))
    held = None
    for number, batch in enumerate(batches(np.prod(grid)), 1):
        rows = batch.reshape(*grid, ROWS, WIDTH)
        held = step(start(rows) if held is None else held, rows)
        if number % STEPS == 0:
            held = together(held)
            yield held


def check(kappa, workers=None):
    """Two whole rounds: parameters, masks, moments and statistics of every worker.

    Args:
      kappa: partitions.
      workers: of each partition; None for a mesh without an axis for that.
    """
    parts = partitions_of(kappa)
    axis, other = ("workers", None) if workers is None else ("partition", "workers")
    mesh = runtime.worker_mesh(
        jax.devices()[: kappa * (workers or 1)], partitions=kappa if workers else None
    )
    grid = (kappa,) if workers is None else (workers, kappa)
    tx = optimizer(parts, axis, other or ())
    names = mesh.axis_names
    rounds = zip(
        on_devices(mesh, names, parts, tx), simulated(grid, parts, tx, axis, other), strict=True
    )
    first = None
    for found, wanted in rounds:
        params, state, variables = wanted
        rows = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[len(grid) :]),
            (params, masks.find(state).masks, state.inner, variables),
        )
        mine = found.opt_state
        compare(found.params, rows[0])
        jax.tree.map(np.testing.assert_array_equal, mine.masks, rows[1])
        compare(mine.inner, rows[2])
        compare(found.variables, rows[3])
        check_whole(found)
        first = found if first is None else first
    for name in ("params", "variables"):
        both = getattr(first, name), getattr(found, name)
        assert min(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), *both))) > 0


def check_whole(trained):
    """All workers have the same, and every layer is sparse."""
    for leaf in jax.tree.leaves((trained.params, trained.variables)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    for path, mask in trained.opt_state.masks.items():
        assert set(mask.sum((1, 2))) == {round(DENSITY * WIDTH * WIDTH)}, path
        assert not np.any(trained.params[path[0]]["kernel"][~mask])


def compare(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        # What does not differ between workers is held once on devices.
        np.testing.assert_allclose(*np.broadcast_arrays(a, b), rtol=1e-9, atol=1e-9)


CHECKS = {
    "a worker a partition": functools.partial(check, 4),
    "two workers a partition": functools.partial(check, 2, 2),
    "one partition of one worker": functools.partial(check, 1),
}

# Of two processes with a device each.
APART = {"a process a partition": functools.partial(check, 2)}

if __name__ == "__main__":
    # So that sums in another order stay sums, and do not choose other weights.
    jax.config.update("jax_enable_x64", True)
    with runtime.start() as job:
        assert (job.count, jax.device_count()) in ((1, DEVICES), (2, 2))
        checks = CHECKS if job.count == 1 else APART
        for name in sys.argv[1:] or checks:
            checks[name]()
            print(f"passed: {name}", flush=True)
