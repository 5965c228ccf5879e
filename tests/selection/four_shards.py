"""What `shards_test.py` runs on four devices: leaves in four pieces are selected from as if they were whole."""

import functools
import itertools
import math
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import compress, selection
from sparsetrain.selection import layers, threshold
from tests.masks.registry import quick_jit
from tests.selection.conftest import NAMES, awkward, stable_order

SHARDS = 4
SHAPES = ((8, 5), (4,), (12, 30, 11), (16,))
ENDS = np.cumsum([math.prod(shape) for shape in SHAPES])
TOTAL = int(ENDS[-1])
SOME_K = (1, 2, TOTAL // 100, TOTAL // 3, TOTAL - 1, TOTAL)
ROWS = P("shards")


def mesh_of(kind=AxisType.Auto):
    return jax.make_mesh((SHARDS,), ("shards",), axis_types=(kind,))


def on_shards(function, outputs, kind=AxisType.Auto):
    """(leaves in pieces, k) -> what a function makes of them on every device."""
    inputs = ([ROWS] * len(SHAPES), P())
    return quick_jit(
        jax.shard_map(function, mesh=mesh_of(kind), in_specs=inputs, out_specs=outputs)
    )


def leaves_of(values):
    parts = np.split(values, ENDS[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def same_bits(found, wanted):
    found, wanted = np.asarray(found), np.asarray(wanted)
    kind = f"V{found.dtype.itemsize}"
    np.testing.assert_array_equal(found.view(kind), wanted.view(kind))


def collectives(compiled):
    """Kind and entries of everything that crosses devices."""
    found = []
    for shapes, kind in re.findall(
        r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(",
        compiled.as_text(),
    ):
        sizes = re.findall(r"\w+\[([\d,]*)\]", shapes)
        assert sizes, shapes
        found += [(kind, math.prod(int(n) for n in size.split(",") if n)) for size in sizes]
    return found


def only_counts_cross(function, *operands, others=1):
    """No device sees a parameter of another: a few integers a leaf, in sums or gathered."""
    seen = collectives(function.lower(*operands).compile())
    assert {kind for kind, _ in seen} <= {"all-reduce", "all-gather"}, seen
    assert seen and max(size for _, size in seen) <= 5 * len(SHAPES) * others, seen


def masks(kind=AxisType.Auto):
    """`kth_magnitude_of` and `top_k_masks`, of awkward values, at every kind of k."""

    def find(leaves, k):
        found, counts = selection.top_k_masks(leaves, k, "shards")
        least = selection.kth_magnitude_of(leaves, k, "shards")
        return found, counts[None], least

    sharded = on_shards(find, ([ROWS] * len(SHAPES), ROWS, P()), kind)
    place = NamedSharding(mesh_of(kind), ROWS)
    for name in NAMES:
        values = awkward(TOTAL)[name]
        leaves = leaves_of(values)
        ranked = stable_order(values)
        for k in SOME_K if kind == AxisType.Auto else SOME_K[2:4]:
            found, counts, least = sharded(jax.device_put(leaves, place), jnp.int32(k))
            wanted = np.zeros(TOTAL, bool)
            wanted[ranked[:k]] = True
            got = np.concatenate([np.asarray(mask).reshape(-1) for mask in found])
            np.testing.assert_array_equal(got, wanted, err_msg=f"{name} {k}")
            ones = [mask.sum() for mask in np.split(wanted, ENDS[:-1])]
            np.testing.assert_array_equal(np.asarray(counts).sum(0), ones)
            whole = np.abs(values[ranked[k - 1]])
            assert (
                np.isnan(least)
                if np.isnan(whole)
                else np.array_equal(np.asarray(least).view(np.int32), whole.view(np.int32))
            ), (name, k)
    only_counts_cross(sharded, jax.device_put(leaves, place), jnp.int32(3), others=SHARDS)


def two_axes():
    """Shards of several mesh axes are ordered as the axes are named."""
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    rows = P(("x", "y"))
    find = quick_jit(
        jax.shard_map(
            lambda leaf: selection.top_k_masks([leaf], 5, ("x", "y"))[0][0],
            mesh=mesh,
            in_specs=rows,
            out_specs=rows,
        )
    )
    assert np.asarray(find(np.ones(12, np.float32))).tolist() == [True] * 5 + [False] * 7


def through_a_sample():
    """The way of large arrays, forced on small ones."""
    threshold.LEAST_SAMPLED = 1
    masks()


def of_each():
    """`top_k_mask_of_each` and the list of `top_k_entries_of`, also where leaves are read where they lie."""
    layers.LARGE = 256

    def find(leaves, k):
        each = selection.top_k_mask_of_each(leaves, [k[i] for i in range(len(SHAPES))], "shards")
        values, indices, counts = selection.top_k_entries_of(leaves, k[-1], "shards", slots=TOTAL)
        return each, values[None], indices[None], counts[None]

    sharded = on_shards(find, ([ROWS] * len(SHAPES), ROWS, ROWS, ROWS))
    for name in NAMES:
        values = awkward(TOTAL)[name]
        leaves = leaves_of(values)
        for share in (0.0, 0.01, 0.4, 1.0):
            k = [round(share * leaf.size) for leaf in leaves]
            every = max(1, round(share * TOTAL))
            found, *entries = sharded(leaves, jnp.array([*k, every]))
            for leaf, mask, count in zip(leaves, found, k, strict=True):
                wanted = np.zeros(leaf.size, bool)
                wanted[stable_order(leaf)[:count]] = True
                np.testing.assert_array_equal(np.asarray(mask).reshape(-1), wanted)
            wanted = np.zeros(TOTAL, bool)
            wanted[stable_order(values)[:every]] = True
            check_entries(leaves, entries, np.split(wanted, ENDS[:-1]))
    only_counts_cross(sharded, leaves, jnp.array([*k, every]), others=SHARDS)


def check_entries(leaves, entries, wanted):
    values, indices, counts = (np.asarray(each) for each in entries)
    for shard in range(SHARDS):
        starts = np.cumsum(counts[shard]) - counts[shard]
        for i, leaf in enumerate(leaves):
            here = np.split(leaf.reshape(-1), SHARDS)[shard]
            places = np.flatnonzero(np.split(wanted[i], SHARDS)[shard])
            slots = slice(starts[i], starts[i] + counts[shard, i])
            np.testing.assert_array_equal(indices[shard, slots], places)
            same_bits(values[shard, slots], here[places])


COMPRESSORS = {
    "global": functools.partial(compress.global_top_k, 0.05),
    "warm-up": functools.partial(
        compress.global_top_k, compress.warm_up(0.3, 0.05, steps_per_epoch=1, epochs=2)
    ),
    "DLS(1)": functools.partial(compress.layerwise, 0.05),
    "DLS(inf)": functools.partial(compress.layerwise, 0.01, None),
}


def rounds():
    for seed in range(3):
        values = np.random.default_rng(seed).standard_normal(TOTAL).astype(np.float32)
        if seed == 2:
            values = awkward(TOTAL)["ties"]
        # Layers of different scales: their thresholds have far to go.
        yield [leaf * np.float32(2**i) for i, leaf in enumerate(leaves_of(values))]


def compressors(name):
    """The compressors alone: payloads, counts and thresholds of three rounds, to the bit."""
    make = COMPRESSORS[name]
    whole, pieces = make(), make(shards="shards")

    def after(compressor):
        def step(leaves, state):
            payload, state = compressor.compress(leaves, state)
            return compressor.decompress(payload), state

        return step

    mesh = mesh_of()
    begin = quick_jit(jax.shard_map(pieces.init, mesh=mesh, in_specs=ROWS, out_specs=P()))
    here = quick_jit(
        jax.shard_map(after(pieces), mesh=mesh, in_specs=(ROWS, P()), out_specs=(ROWS, P()))
    )
    there = quick_jit(after(whole))
    leaves = next(rounds())
    states = begin(leaves), whole.init(leaves)
    for leaves in rounds():
        found, mine = here(leaves, states[0])
        wanted, theirs = there(leaves, states[1])
        states = mine, theirs
        jax.tree.map(same_bits, (found, mine), (wanted, theirs))
    only_counts_cross(here, leaves, states[0], others=SHARDS)


def exchange():
    """Two workers of two shards each: residuals in pieces, and a worker that is not finite in one piece."""
    mesh = Mesh(
        np.array(jax.devices()).reshape(2, 2),
        ("workers", "shards"),
        axis_types=(AxisType.Auto,) * 2,
    )
    both = P("workers", "shards")

    def one(compressor):
        tx = compress.exchange(compressor, axis_name="workers")

        def turns(gradients):
            state, updates = tx.init(gradients[0]), []
            for each in gradients:
                update, state = tx.update(each, state)
                updates.append(update)
            return updates, state.memory.residual, state.nonfinite

        return turns

    gradients = [
        [np.stack([leaf, 0.5 * leaf[::-1]]) for leaf in leaves]
        for leaves in itertools.islice(rounds(), 2)
    ]
    gradients[0][0][1, 0, 0] = np.nan  # In the first shard of the second worker.

    def shard(gradients):
        updates, residual, nonfinite = one(compress.layerwise(0.05, shards="shards"))(
            jax.tree.map(lambda leaf: leaf[0], gradients)
        )
        return updates, jax.tree.map(lambda leaf: leaf[None], residual), nonfinite[None]

    sharded = jax.shard_map(
        shard, mesh=mesh, in_specs=both, out_specs=(P("shards"), both, P("workers"))
    )
    found = quick_jit(sharded)(gradients)
    wanted = quick_jit(
        jax.vmap(one(compress.layerwise(0.05)), axis_name="workers", out_axes=(None, 0, 0))
    )(gradients)
    assert found[2].tolist() == wanted[2].tolist() == [0, 1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)
    assert optax.tree.norm(found[0]) > 0


CHECKS = {
    "masks": masks,
    "masks of an explicit mesh": functools.partial(masks, AxisType.Explicit),
    "pieces along two axes": two_axes,
    "of each": of_each,
    **{name: functools.partial(compressors, name) for name in COMPRESSORS},
    "exchange": exchange,
    # Last, as it changes what the others are measured with.
    "through a sample": through_a_sample,
}

if __name__ == "__main__":
    assert jax.device_count() == SHARDS
    for name in sys.argv[1:] or CHECKS:
        CHECKS[name]()
        print(f"passed: {name}", flush=True)
