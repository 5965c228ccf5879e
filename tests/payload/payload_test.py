"""Every payload: dense form, exact bits, silence, and life as a pytree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.payload import (
    AgreedSparse,
    Dense,
    DenseAtFirst,
    LowRank,
    Natural,
    Payload,
    Quantized,
    Sign,
    Sparse,
    SparseBinary,
    SparseTernary,
    SparseTree,
    beyond,
    is_payload,
)

INDICES = np.array([1, 3, 24], np.int32)  # Two used, the last one beyond the 24 entries.
TWO = np.int32(2)
SHAPE = (4, 6)
POSITION_BITS = (0 + 1 + 2) + (0 + 1 + 2)  # Gaps 2 and 2 with b = 2.


def examples():
    """Payload, what it decodes to (flat, other entries zero), and its exact bits without header."""
    factors = LowRank(jnp.ones((4, 2)), jnp.full((6, 2), 0.5), SHAPE)
    return {
        "dense": (Dense(jnp.ones(SHAPE)), dict.fromkeys(range(24), 1.0), 24 * 32),
        "dense bfloat16": (
            Dense(jnp.ones(SHAPE, jnp.bfloat16)),
            dict.fromkeys(range(24), 1.0),
            24 * 16,
        ),
        "sparse": (
            Sparse(INDICES, TWO, SHAPE, 2, values=jnp.array([5.0, -6.0, 0.0])),
            {1: 5.0, 3: -6.0},
            POSITION_BITS + 2 * 32,
        ),
        "agreed": (
            AgreedSparse(INDICES, TWO, SHAPE, None, values=jnp.array([5.0, -6.0, 0.0])),
            {1: 5.0, 3: -6.0},
            2 * 32,
        ),
        "binary": (
            SparseBinary(INDICES, TWO, SHAPE, 2, mean=jnp.float32(-3.0)),
            {1: -3.0, 3: -3.0},
            POSITION_BITS + 32,
        ),
        "ternary": (
            SparseTernary(
                INDICES, TWO, SHAPE, 2, mean=jnp.float32(3.0), negative=np.array([1, 0, 0], bool)
            ),
            {1: -3.0, 3: 3.0},
            POSITION_BITS + 32 + 2,
        ),
        "sign": (
            Sign.pack(jnp.arange(24).reshape(SHAPE) < 2, jnp.float32(-1), jnp.float32(1), 0),
            {**dict.fromkeys(range(24), -1.0), 0: 1.0, 1: 1.0},
            24,
        ),
        "scaled sign": (
            Sign.pack(jnp.ones(SHAPE, bool), jnp.float32(-2), jnp.float32(2), 1),
            dict.fromkeys(range(24), 2.0),
            24 + 32,
        ),
        "quantized": (
            Quantized(jnp.ones(24, jnp.int8), jnp.array([4.0, 8.0, 8.0]), SHAPE, 4, 10),
            {i: 1.0 if i < 10 else 2.0 for i in range(24)},
            24 * (1 + 3) + 3 * 32,
        ),
        "natural": (
            Natural(
                jnp.full(24, np.float32(-0.25).view(np.uint32) >> 23).astype(jnp.uint16), SHAPE
            ),
            dict.fromkeys(range(24), -0.25),
            24 * 9,
        ),
        "low rank": (
            factors,
            dict.fromkeys(range(24), 1.0),
            32 * 2 * (4 + 6),
        ),
        "dense at first, dense": (
            DenseAtFirst(Dense(jnp.full(SHAPE, 3.0)), factors, np.bool_(True)),
            dict.fromkeys(range(24), 3.0),
            24 * 32,
        ),
        "dense at first, factors": (
            DenseAtFirst(Dense(jnp.full(SHAPE, 3.0)), factors, np.bool_(False)),
            dict.fromkeys(range(24), 1.0),
            32 * 2 * (4 + 6),
        ),
    }


NAMES = sorted(examples())


@pytest.mark.parametrize("name", NAMES)
def test_dense_form_and_exact_bits(name):
    payload, entries, bits = examples()[name]
    expected = np.zeros(24)
    for index, value in entries.items():
        expected[index] = value
    dense = jax.jit(lambda payload: payload.to_dense())(payload)
    np.testing.assert_array_equal(np.asarray(dense, np.float32), expected.reshape(SHAPE))
    assert int(jax.jit(lambda payload: payload.payload_bits())(payload)) == bits
    sections = {part: int(count) for part, count in payload.sections().items()}
    assert int(payload.wire_bytes()) == sum(-(-count // 8) for count in sections.values())


@pytest.mark.parametrize("name", NAMES)
def test_silence(name):
    payload, _, _ = examples()[name]
    spoken = payload.silenced(jnp.bool_(True))
    np.testing.assert_array_equal(spoken.to_dense(), payload.to_dense())
    silent = payload.silenced(jnp.bool_(False)).to_dense()
    np.testing.assert_array_equal(np.asarray(silent, np.float32), np.zeros(SHAPE))


@pytest.mark.parametrize("name", NAMES)
def test_is_a_pytree_with_static_shape(name):
    payload, _, _ = examples()[name]
    assert isinstance(payload, Payload) and is_payload(payload)
    spec = jax.eval_shape(lambda: payload)
    assert spec.to_dense.__self__ is spec
    assert jax.tree.structure(spec) == jax.tree.structure(payload)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), payload)
    bits = jax.vmap(lambda payload: payload.payload_bits())(stacked)
    assert bits.low.tolist() == [int(payload.payload_bits())] * 2


def test_a_tree_of_exactly_k_slots():
    payload = SparseTree(
        jnp.array([1.0, 2.0, 3.0, 0.0]),
        jnp.array([0, 3, 1, 0]),
        jnp.array([2, 0, 1]),
        ((2, 2), (5,), (3,)),
        1,
    )
    assert payload.leaf_of_slot().tolist() == [0, 0, 2, 3]
    assert payload.positions().tolist() == [0, 3, 10, 12 + 3]
    dense = payload.to_dense()
    assert [leaf.shape for leaf in dense] == [(2, 2), (5,), (3,)]
    assert dense[0].tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert dense[1].tolist() == [0.0] * 5 and dense[2].tolist() == [0.0, 3.0, 0.0]
    # Gaps 1, 3, 7 with b = 1: quotients 0, 1, 3.
    assert int(payload.payload_bits()) == (0 + 1 + 3) + 3 * 2 + 3 * 32
    silent = payload.silenced(jnp.bool_(False))
    assert int(silent.payload_bits()) == 0
    assert not any(leaf.any() for leaf in silent.to_dense())


def test_a_tree_beyond_int32_is_refused():
    shapes = ((2**30,), (2**30,))
    payload = SparseTree(jnp.zeros(1), jnp.zeros(1, jnp.int32), jnp.array([1, 0]), shapes)
    with pytest.raises(ValueError, match="2147483648 entries"):
        payload.positions()


def test_unused_slots_are_distinct():
    assert beyond(7, 3).tolist() == [7, 8, 9]
