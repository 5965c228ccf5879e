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


GRID = np.array([[True, False, True], [False, False, True]])
TX = masks.static(optax.sgd(0.1), 0.5, key=jax.random.key(0), structure=BLOCKS)


def state_of(**kernels):
    """Masks as a state holds them; others are all ones."""
    whole = {path: jnp.ones(leaf.shape, bool) for path, leaf in PARAMS.items()}
    return masks.MaskState(jnp.int32(0), whole | kernels, (), (), jnp.float32(0.0))


def test_blocks_are_those_of_the_masks() -> None:
    state = state_of(w=jnp.asarray(np.kron(GRID, np.ones((4, 4), bool))))
    live = masks.live_blocks(TX, (state, optax.EmptyState()), 4)
    assert live.keys() == {"w"}
    np.testing.assert_array_equal(live["w"], GRID)
    smaller = masks.live_blocks(TX, state, 2, kernels="w")["w"]
    np.testing.assert_array_equal(smaller, np.kron(GRID, np.ones((2, 2), bool)))
    traced = jax.jit(lambda state: masks.live_blocks(TX, state, 4))(state)
    np.testing.assert_array_equal(traced["w"], GRID)


def test_a_block_in_part_is_seen_and_inside_jit_live() -> None:
    mask = np.kron(GRID, np.ones((4, 4), bool))
    mask[7, 0] = True
    state = state_of(w=jnp.asarray(mask))
    with pytest.raises(ValueError, match=r"mask of w is not made of whole blocks.*block\(4, 4\)"):
        masks.live_blocks(TX, state, 4)
    with pytest.raises(ValueError, match="not made of whole blocks"):
        jax.jit(lambda: masks.live_blocks(TX, state, 4))()  # a constant there
    traced = jax.jit(lambda state: masks.live_blocks(TX, state, 4))(state)["w"]
    np.testing.assert_array_equal(traced, [[True, False, True], [True, False, True]])


def test_what_is_refused() -> None:
    tx, state = TX, state_of()
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
        masks.live_blocks(dpf, state, 4)
    seen = gap(mask_gradients=False)
    with pytest.raises(ValueError, match="mask_gradients=False"):
        masks.live_blocks(seen, state, 4)


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
    state = state_of(w=jnp.asarray(np.kron(GRID, np.ones((4, 4), bool))))

    def count(step):
        live = masks.live_blocks(tx, state._replace(step=jnp.int32(step)), 4)
        return int(live["w"].sum())

    # The first phase has all six, though the masks that the state begins with have three.
    assert [count(step) for step in (0, 1, 2)] == [6, 3, 3]


def test_growing_by_gradient_has_all_gradients_where_it_reads_them() -> None:
    state = state_of(w=jnp.asarray(np.kron(GRID, np.ones((4, 4), bool))))
    options = {"key": jax.random.key(0), "every": 3, "until": 5}

    def dense(tx):
        steps = [state._replace(step=jnp.int32(step)) for step in range(8)]
        return [bool(masks.live_blocks(tx, each, 4)["w"].all()) for each in steps]

    by_gradient = masks.rigl(optax.sgd(0.1), 0.5, **options)
    assert dense(by_gradient) == [False, False, True, *[False] * 5]
    assert not any(dense(masks.evolutionary(optax.sgd(0.1), 0.5, **options)))
