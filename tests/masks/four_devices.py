"""What needs several devices, run by `contract_devices_test.py` in a process that has four of them."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import masks, tree
from tests.masks.registry import KEY, UPDATES, make, model, quick_jit

WORKERS = 4
LAYOUT = {"a": P("x", "y"), "b": P("x", "y"), "c": P(None, None, "x", "y")}


def gradients(step, worker):
    """Sixteenths, so that the order of a sum over workers does not matter."""
    return jax.tree.map(lambda leaf: jnp.round(4 * leaf) / 16, model(100 + 10 * step + worker))


def assert_same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # Masks exactly; a compiler may round a float otherwise in another program.
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=1e-8)


def workers_mesh():
    return jax.make_mesh((WORKERS,), ("workers",), axis_types=(AxisType.Auto,))


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def replicated(name):
    """The same weights everywhere and gradients that are averaged: `shard_map` against `vmap`."""
    tx = make(name, axis_name="workers")

    def step(grads, state, params):
        grads = jax.lax.pmean(grads, "workers")
        moves, state = tx.update(grads, state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, moves), state

    def one(grads, state, params):
        return step(jax.tree.map(lambda leaf: leaf[0], grads), state, params)

    start = quick_jit(tx.init)(model())
    mapped = jax.shard_map(
        one, mesh=workers_mesh(), in_specs=(P("workers"), P(), P()), out_specs=P()
    )
    sharded = quick_jit(mapped)
    together = quick_jit(jax.vmap(step, in_axes=(0, None, None), axis_name="workers"))
    here = there = (masks.apply(model(), start), start)
    for number in range(UPDATES):
        grads = stacked([gradients(number, worker) for worker in range(WORKERS)])
        here = sharded(grads, here[1], here[0])
        there = together(grads, there[1], there[0])
        for leaf in jax.tree.leaves(there):
            assert np.array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape), equal_nan=True)
        there = jax.tree.map(lambda leaf: leaf[0], there)
        assert_same(here, there)
    # Not only does it agree, it takes the branch: one worker's program has it.
    assert "stablehlo.case" in sharded.lower(grads, here[1], here[0]).as_text()


def parallel():
    """P-GaP: each device its own partition, combined after every round."""
    parts = masks.partitions({name: rf"{name}/.*" for name in "abcd"})
    params = {
        name: {"kernel": jnp.asarray(np.random.default_rng(i).standard_normal((4, 6), np.float32))}
        for i, name in enumerate("abcd")
    }
    tx = masks.grow_and_prune(
        optax.sgd(0.125, momentum=0.5),
        0.25,
        parts,
        steps_per_phase=2,
        phases=2,
        key=KEY,
        order="parallel",
        axis_name="workers",
    )

    def begin(params):
        state = tx.init(params)
        return masks.apply(params, state), state

    def turn(grads, params, state):
        for g in grads:
            moves, state = tx.update(g, state, params)
            params = optax.apply_updates(params, moves)
        return masks.combine(params, state, parts, "workers")

    def alone(function):
        """One worker of `shard_map`, where its share has a leading axis of one."""

        def of_slice(*trees):
            found = function(*jax.tree.map(lambda leaf: leaf[0], trees))
            return jax.tree.map(lambda leaf: leaf[None], found)

        mapped = jax.shard_map(
            of_slice, mesh=workers_mesh(), in_specs=P("workers"), out_specs=P("workers")
        )
        return quick_jit(mapped)

    def grads(number):
        return tuple(
            stacked(
                [
                    jax.tree.map(lambda leaf, w=w, k=k: jnp.roll(leaf, w + k) / 8, params)
                    for w in range(WORKERS)
                ]
            )
            for k in (number, number + 7)
        )

    many = stacked([params] * WORKERS)
    here = alone(begin)(many)
    there = jax.vmap(begin, axis_name="workers")(many)
    sharded, together = alone(turn), quick_jit(jax.vmap(turn, axis_name="workers"))
    for number in range(2):
        here, there = sharded(grads(number), *here), together(grads(number), *there)
        assert_same(here, there)
    assert {int(mask.sum()) for mask in here[1].masks.values()} == {WORKERS * 6}


def layout(path):
    """How a leaf is cut, of the model or of a state that holds others like it."""
    name = "/" + tree.join(path)
    return next((spec for key, spec in LAYOUT.items() if name.endswith(f"/{key}/kernel")), P())


def sharded(name, axis_type):
    """Parameters that live in pieces: the same masks as on one device, and the pieces stay put."""
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(axis_type,) * 2)
    tx = make(name)
    layouts = functools.partial(jax.tree_util.tree_map_with_path, lambda path, _: layout(path))

    def update(grads, state, params):
        return tx.update(grads, state, params, value=jnp.float32(1.0))

    def train(init, update, place):
        params = place(model())
        state = init(params)
        params = masks.apply(params, state)
        for step in range(UPDATES):
            moves, state = update(place(gradients(step, 0)), state, params)
            params = optax.apply_updates(params, moves)
            yield params, state

    def place(values):
        return jax.tree.map(
            lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)),
            values,
            layouts(values),
        )

    alone = train(quick_jit(tx.init), quick_jit(update), lambda values: values)
    expected = list(alone)[-1]
    make_state, make_moves = tx.init, update
    if axis_type == AxisType.Explicit:
        # Weights are ranked in one row, and a reshape of what is cut has no sharding of its own.
        of_state = layouts(jax.eval_shape(tx.init, model()))
        make_state = jax.sharding.auto_axes(tx.init, out_sharding=of_state)
        make_moves = jax.sharding.auto_axes(update, out_sharding=(layouts(model()), of_state))
    with jax.set_mesh(mesh):
        for found in train(quick_jit(make_state), quick_jit(make_moves), place):
            for key, spec in LAYOUT.items():
                kernel = found[0][key]["kernel"]
                assert kernel.sharding.is_equivalent_to(NamedSharding(mesh, spec), kernel.ndim)
    for got, wanted in zip(found, expected, strict=True):
        assert_same(got, wanted)


CHECKS = {
    "replicated": replicated,
    "parallel": parallel,
    "auto": functools.partial(sharded, axis_type=AxisType.Auto),
    "explicit": functools.partial(sharded, axis_type=AxisType.Explicit),
}

if __name__ == "__main__":
    assert jax.device_count() == WORKERS
    for wanted in sys.argv[1:]:
        check, *name = wanted.split(":")
        CHECKS[check](*name)
        print("passed", wanted)
