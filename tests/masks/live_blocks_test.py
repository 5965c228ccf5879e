"""Which blocks the next update needs, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks

PARAMS = {
    "conv": jnp.ones((2, 2, 4, 4)),
    "odd": jnp.ones((6, 4)),
    "w": jax.random.normal(jax.random.key(0), (8, 12)),
}
BLOCKS = masks.block(4, 4)


def static(**options):
    return masks.static(optax.sgd(0.1), 0.5, scores=PARAMS, **options)


def test_blocks_are_those_of_the_masks() -> None:
    tx = static(structure=BLOCKS)
    state = tx.init(PARAMS)
    live = masks.live_blocks(tx, (state, optax.EmptyState()), 4)
    assert live.keys() == {"w"}
    np.testing.assert_array_equal(live["w"], np.asarray(state.masks["w"])[::4, ::4])
    assert 0 < int(live["w"].sum()) < 6
    # Blocks of another size: live where any part of them is.
    halves = masks.live_blocks(tx, state, 2, kernels="w")["w"]
    np.testing.assert_array_equal(halves, np.repeat(np.repeat(live["w"], 2, 0), 2, 1))
    traced = jax.jit(lambda state: masks.live_blocks(tx, state, 4))(state)
    np.testing.assert_array_equal(traced["w"], live["w"])


def test_a_block_in_part_is_seen_and_inside_jit_live() -> None:
    tx = static()
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"mask of w is not made of whole blocks.*block\(4, 4\)"):
        masks.live_blocks(tx, state, 4)
    traced = jax.jit(lambda state: masks.live_blocks(tx, state, 4))(state)["w"]
    blocks = np.asarray(state.masks["w"]).reshape(2, 4, 3, 4)
    np.testing.assert_array_equal(traced, blocks.any((1, 3)))


def test_what_is_refused() -> None:
    tx = static(structure=BLOCKS)
    state = tx.init(PARAMS)
    with pytest.raises(
        ValueError, match=r"block=5: nothing to take; masked are conv \(2, 2, 4, 4\), odd"
    ):
        masks.live_blocks(tx, state, 5)
    with pytest.raises(ValueError, match=r"kernels='conv\|w', block=4: conv cannot be taken"):
        masks.live_blocks(tx, state, 4, kernels="conv|w")
    with pytest.raises(ValueError, match="kernels='W', block=4: nothing to take"):
        masks.live_blocks(tx, state, 4, kernels="W")
    with pytest.raises(ValueError, match="block=0: must be at least 1"):
        masks.live_blocks(tx, state, 0)
    with pytest.raises(TypeError, match="give the wrapper itself, not the chain around it"):
        masks.live_blocks(optax.chain(optax.clip(1.0), tx), state, 4)
    dpf = masks.dpf(optax.sgd(0.1), 0.5, end=3, structure=BLOCKS)
    with pytest.raises(ValueError, match="masked weights live on"):
        masks.live_blocks(dpf, dpf.init(PARAMS), 4)
    seen = gap(mask_gradients=False)
    with pytest.raises(ValueError, match="mask_gradients=False"):
        masks.live_blocks(seen, seen.init(PARAMS), 4)


def gap(**options):
    parts = masks.partitions({"first": "w", "rest": "conv|odd"})
    return masks.grow_and_prune(
        optax.sgd(0.1),
        0.5,
        parts,
        steps_per_phase=2,
        phases=2,
        key=jax.random.key(0),
        structure=BLOCKS,
        **options,
    )


def test_a_partition_that_grows_with_the_next_update_is_live_for_it() -> None:
    tx = gap()
    state = tx.init(PARAMS)
    params = masks.apply(PARAMS, state)
    counts = []
    for _ in range(4):
        counts.append(int(masks.live_blocks(tx, state, 4)["w"].sum()))
        _, state = tx.update(params, state, params)
    # The first phase has all six, though the masks that the state begins with have three.
    assert counts == [6, 6, 3, 3]


def test_growing_by_gradient_has_all_gradients_where_it_reads_them() -> None:
    tx = masks.rigl(optax.sgd(0.1), 0.05, key=jax.random.key(0), every=3, until=5)
    params = {"w": PARAMS["w"]}
    state = tx.init(params)
    blocks = jax.jit(lambda state: masks.live_blocks(tx, state, 4)["w"])
    dense = []
    for _ in range(4):
        dense.append(bool(blocks(state).all()))
        _, state = tx.update(params, state, params)
    assert dense == [False, False, True, False]
    grows_at_random = masks.evolutionary(
        optax.sgd(0.1), 0.05, key=jax.random.key(0), every=1, until=5
    )
    state = grows_at_random.init(params)
    assert not jax.jit(lambda state: masks.live_blocks(grows_at_random, state, 4)["w"])(state).all()
