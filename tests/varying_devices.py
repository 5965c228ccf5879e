"""What `varying_test.py` runs on four devices: under `shard_map` all get, to the bit, what they should."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sparsetrain import compress, selection
from tests.compress import contract_test as compressors
from tests.masks import registry
from tests.masks.registry import quick_jit
from tests.selection.conftest import awkward

WORKERS = 4


def on_devices(function):
    """A function of one worker's shares on all workers, each on a device of its own."""

    def of_shares(*shares):
        found = function(*jax.tree.map(lambda leaf: leaf[0], shares))
        return jax.tree.map(lambda leaf: leaf[None], found)

    mesh = jax.make_mesh((WORKERS,), ("workers",), axis_types=(AxisType.Auto,))
    rows = P("workers")
    return quick_jit(jax.shard_map(of_shares, mesh=mesh, in_specs=rows, out_specs=rows))


def one_by_one(function):
    """The same, one worker after the other."""
    alone = quick_jit(function)

    def of_all(*shares):
        each = [jax.tree.map(lambda leaf, w=w: np.asarray(leaf)[w], shares) for w in range(WORKERS)]
        return stacked([alone(*share) for share in each])

    return of_all


def stacked(trees):
    # NumPy, since each operation outside a program is compiled too.
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def compare(turn, start, inputs, axis_name=None):
    """Several turns, (state, input) -> (state, output), both ways; leaves have an axis of workers."""
    together = on_devices(turn)
    if axis_name is None:
        apart = one_by_one(turn)
    else:
        apart = quick_jit(jax.vmap(turn, axis_name=axis_name))
    here = there = (start, None)
    for each in inputs:
        here, there = together(here[0], each), apart(there[0], each)
        for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def selections():
    """Data on which searches take unequal numbers of turns, and ranks of every worker's own."""
    # So that few entries go the ways of many.
    limits = {"threshold.LEAST_SAMPLED": 1 << 10, "threshold.FEW": 64, "layers.LARGE": 1 << 11}
    limits |= {"counting.SMALL": 1 << 11, "entries.HEAP_SIZE": 1 << 9}
    for name, limit in limits.items():
        module, _, constant = name.partition(".")
        setattr(importlib.import_module(f"sparsetrain.selection.{module}"), constant, limit)

    def select(state, given):
        values, k = given
        leaves = [values[:300], values[300:3000], values[3000:]]
        return state, (
            selection.kth_magnitude_of(leaves, k),
            selection.sampled_threshold(values, 0.1, 0.1),
            selection.top_k_entries(values, 700),
            selection.top_k_entries_of(leaves, 900),
            selection.top_k_mask_of_each(leaves, jnp.stack([k // 20, k // 4, k // 3])),
            selection.top_k_masks(leaves, k),
        )

    values = awkward(6000)
    kinds = ("smooth", "ties", "mostly zero", "not finite")
    data = np.stack([values[kind] for kind in kinds])
    compare(select, (), [(data, np.array([10, 1500, 3000, 5990], np.int32))])


def sixteenths(tree):
    """Numbers whose sums do not depend on the order in which a program takes them."""
    return jax.tree.map(lambda leaf: (np.round(4 * np.asarray(leaf)) / 16).astype(leaf.dtype), tree)


def optimizer(make, begin, gradients, updates, axis_name=None):
    """Updates of a transformation whose weights, gradients and state are every worker's own."""
    tx = make(axis_name)
    init = quick_jit(tx.init)

    def turn(state, grads):
        params, held = state
        moves, held = tx.update(grads, held, params)
        return (optax.apply_updates(params, moves), held), moves

    params = [sixteenths(begin(worker)) for worker in range(WORKERS)]
    start = stacked([(each, init(each)) for each in params])
    inputs = [
        stacked([sixteenths(gradients(10 * step + worker)) for worker in range(WORKERS)])
        for step in range(updates)
    ]
    compare(turn, start, inputs, axis_name)


def exchanged(name, **options):
    """A compressor, of its registry's settings but for these options."""
    return lambda axis_name: compress.exchange(
        compressors.make(name, **options), axis_name=axis_name
    )


def in_local_steps(axis_name):
    return compress.local_steps(
        optax.sgd(0.125, momentum=0.5),
        2,
        compress.global_top_k(0.3),
        optax.sgd(0.5),
        momentum_masking="first",
        axis_name=axis_name,
    )


def masked(name):
    def make(axis_name):
        return registry.make(name, optax.sgd(0.125, momentum=0.5), axis_name=axis_name)

    return make


compressed = functools.partial(
    optimizer, begin=compressors.gradients, gradients=compressors.gradients, updates=2
)
pruned = functools.partial(
    optimizer,
    begin=registry.model,
    gradients=lambda seed: registry.model(100 + seed),
    updates=4,
    axis_name="workers",
)
CHECKS = {
    "selections": selections,
    "gradient_dropping": functools.partial(compressed, exchanged("gradient_dropping")),
    "layerwise": functools.partial(compressed, exchanged("layerwise"), axis_name="workers"),
    "local_steps": functools.partial(compressed, in_local_steps, axis_name="workers"),
    "ok_top_k": functools.partial(
        compressed, exchanged("ok_top_k", exact_every=2), axis_name="workers"
    ),
    "rigl": functools.partial(pruned, masked("rigl")),
    "dynamic_reparameterization": functools.partial(pruned, masked("dynamic_reparameterization")),
}

if __name__ == "__main__":
    assert jax.device_count() == WORKERS
    for name, check in CHECKS.items():
        check()
        print("passed", name)
