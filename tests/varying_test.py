"""`shard_map` with its checks of what varies: types by tracing, numbers on four devices."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from sparsetrain import compress, selection, varying
from tests.compress import contract_test as compressors
from tests.devices import run_on_four
from tests.masks import registry
from tests.varying_devices import CHECKS

# Traced only, so that no devices are needed.
MESH = AbstractMesh((4,), ("workers",), axis_types=(AxisType.Auto,))
ROWS, SAME = P("workers"), P()


def trace(function, *shards, specs=ROWS, out_specs=SAME, **options):
    """Traces a function of shards; raises where its types do not fit."""
    mapped = jax.shard_map(function, mesh=MESH, in_specs=specs, out_specs=out_specs, **options)
    return jax.eval_shape(jax.jit(mapped), *shards)


def programs(namespace):
    """Each function of `varying` once, in the words of `varying` or of `jax.lax`."""

    def work(x):
        twice = namespace.cond(x[0] > 0, lambda y: 2 * y, lambda y: y, x)
        one = namespace.switch(jnp.int32(x[0]), [lambda: x, lambda: -x])
        sums = namespace.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + x), (0, 0 * x))
        return twice, one, sums

    return work


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: jax.vmap(f, axis_name="workers")])
def test_elsewhere_these_are_the_functions_of_jax(wrap):
    x = jnp.ones((4, 2))
    if wrap(programs) is programs:
        x = x[0]
    ours, theirs = (jax.jit(wrap(programs(each))).lower(x).as_text() for each in (varying, lax))
    assert ours == theirs


def test_loops_and_branches_join_what_varies():
    axes = []

    def shard(x):
        first = varying.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + x), (0, jnp.zeros(2))
        )
        second = varying.cond(True, lambda: x, lambda: jnp.zeros(2))
        third = varying.switch(jnp.int32(1), [lambda: jnp.zeros(2), lambda: x, lambda: 2 * x])
        axes.extend(map(varying.axes_of, (first, second, third)))
        return jnp.zeros(())

    trace(shard, jnp.ones((8,)))
    assert axes == [{"workers"}] * 3


def test_the_number_of_turns_may_vary_alone():
    def shard(x):
        doubled = varying.while_loop(lambda n: n < x[0], lambda n: 2 * n, jnp.float32(1.0))
        assert varying.axes_of(doubled) == {"workers"}
        return doubled[None]

    trace(shard, jnp.ones((4,)), out_specs=ROWS)


def test_what_is_the_same_everywhere_stays_so():
    def shard(x):
        pair = varying.cond(True, lambda: (x, jnp.ones(2)), lambda: (-x, jnp.zeros(2)))
        assert [varying.axes_of(each) for each in pair] == [{"workers"}, set()]
        # Another branch on every device: another result, though of nothing but constants.
        constants = varying.cond(x[0] > 0, lambda: jnp.ones(2), lambda: jnp.zeros(2))
        assert varying.axes_of(constants) == {"workers"}
        alike = varying.while_loop(lambda n: n < 3, lambda n: n + 1, lax.psum(x[0], "workers"))
        return pair[1], alike

    trace(shard, jnp.ones((8,)))


def test_nested_branches_are_traced_once():
    traced = []

    def nested(depth, x):
        if depth == 0:
            traced.append(x)
            return x
        return varying.cond(x[0] > 0, lambda: nested(depth - 1, x), lambda: jnp.zeros(2))

    trace(lambda x: nested(6, x)[None], jnp.ones((8,)), out_specs=ROWS)
    assert len(traced) == 1


def floats(*shape):
    return jax.ShapeDtypeStruct((4, *shape), jnp.float32)


# Large ones, for which there are other ways of searching, and small ones.
LEAVES = (floats(1 << 19), floats(700), floats(3, 5), floats(1 << 18))
COUNTS = jax.ShapeDtypeStruct((4, len(LEAVES)), jnp.int32)
SELECTIONS = {
    "kth_magnitude": lambda values, k: selection.kth_magnitude(values[0], k[0]),
    "kth_magnitude_of": lambda values, k: selection.kth_magnitude_of(values, k[0]),
    "sampled_threshold": lambda values, k: selection.sampled_threshold(values[0], 0.1, 0.1),
    "top_k_columns": lambda values, k: selection.top_k_columns(values[2], 2),
    "top_k_entries": lambda values, k: selection.top_k_entries(values[0], 70_000),
    "top_k_entries_of": lambda values, k: selection.top_k_entries_of(values, 900),
    "top_k_hierarchical": lambda values, k: selection.top_k_hierarchical(values[0], 9),
    "top_k_mask": lambda values, k: selection.top_k_mask(values[2], 2),
    "top_k_mask_flat": lambda values, k: selection.top_k_mask_flat(values[0], k[0]),
    "top_k_mask_of_each": lambda values, k: selection.top_k_mask_of_each(values, k),
    "top_k_masks": lambda values, k: selection.top_k_masks(values, k[0]),
}


def first(shares):
    """What is given to the worker, or to the first one."""
    return jax.tree.map(lambda leaf: leaf[0], shares)


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections_vary_as_the_data_do(name):
    for specs in (ROWS, SAME):
        trace(
            lambda *shares: jax.tree.map(lambda leaf: leaf[None], SELECTIONS[name](*first(shares))),
            LEAVES,
            COUNTS,
            specs=specs,
            out_specs=specs,
        )


@pytest.mark.parametrize("specs", [(ROWS, SAME), (SAME, ROWS)])
def test_counts_may_vary_without_the_values(specs):
    def shard(*shares):
        values, k = first(shares)
        both = selection.top_k_mask_of_each(values, k), selection.top_k_masks(values, k[0])
        return jax.tree.map(lambda leaf: leaf[None], both)

    trace(shard, LEAVES, COUNTS, specs=specs, out_specs=ROWS)


def test_a_threshold_of_all_shards_is_the_same_on_all():
    trace(
        lambda leaf: selection.kth_magnitude_of([leaf], 123, axis_name="workers"),
        jax.ShapeDtypeStruct((1 << 20,), jnp.float32),
    )


def like_shares(tree):
    """Shapes of a tree of every worker's own."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((4, *leaf.shape), leaf.dtype), tree)


@pytest.mark.parametrize("name", compressors.NAMES)
def test_gradients_may_vary(name):
    """Between weights and a first state that are the same everywhere: the usual data parallelism."""
    shared = compressors.params()
    tx = compress.exchange(compressors.make(name), axis_name="workers")

    def send(shares):
        state = tx.init(shared)
        for _ in range(2):
            updates, state = tx.update(first(shares), state, shared)
        return updates

    # What partners hand each other by `ppermute` ends up equal, but nobody knows it.
    out_specs = ROWS if name == "global_merge_top_k" else SAME
    if out_specs == ROWS:
        whole, send = send, lambda shares: jax.tree.map(lambda leaf: leaf[None], whole(shares))
    trace(send, like_shares(compressors.gradients()), out_specs=out_specs)


@pytest.mark.parametrize("name", compressors.NAMES)
def test_local_steps_may_vary(name):
    tx = compress.local_steps(optax.adam(0.1), 2, compressors.make(name))

    def move(shares):
        params = first(shares)
        updates, _ = tx.update(params, tx.init(compressors.params()), params)
        return jax.tree.map(lambda leaf: leaf[None], updates)

    trace(move, like_shares(compressors.gradients()), out_specs=ROWS)


@pytest.mark.parametrize("name", registry.NAMES)
def test_masks_may_vary(name):
    tx = registry.make(name, optax.sgd(0.1, momentum=0.5), axis_name="workers")

    def move(shares):
        params, state = first(shares)
        found = tx.update(params, state, params), tx.update(params, tx.init(params), params)
        return jax.tree.map(lambda leaf: leaf[None], found)

    params = registry.model()
    shares = like_shares((params, jax.eval_shape(tx.init, params)))
    trace(move, shares, out_specs=ROWS)


def test_on_four_devices():
    """In one process, since the number of devices is fixed when JAX starts."""
    done = run_on_four("tests.varying_devices")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [f"passed {each}" for each in CHECKS]


@pytest.mark.parametrize("name", ["global_top_k", "layerwise", "ok_top_k", "global_merge_top_k"])
def test_without_checks_types_say_nothing_and_nothing_asks_them(name):
    tx = compress.exchange(compressors.make(name), axis_name="workers")

    def update(rows):
        assert not varying.axes_of(rows)
        return tx.update(rows[0], tx.init(rows[0]))[0]

    assert trace(update, jnp.ones((4, 300)), check_vma=False).shape == (300,)
