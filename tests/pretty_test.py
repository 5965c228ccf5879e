import jax
import jax.numpy as jnp
import optax
import pytest

from sparsetrain import compress, masks, payload, pretty
from sparsetrain.compress import ledger
from tests.masks.registry import model

INDICES, VALUES = jnp.array([0, 3, 9, 48, 49]), jnp.array([1.0, 2.0, 3.0, 0.0, 0.0])
PAYLOADS = {
    "3 of 48 (0.0625)": [
        payload.Sparse(indices=INDICES, values=VALUES, count=jnp.int32(3), shape=(6, 8)),
        payload.SparseBinary(
            indices=INDICES, mean=jnp.float32(1.0), count=jnp.int32(3), shape=(6, 8)
        ),
        payload.SparseTree(VALUES, INDICES, jnp.array([3], jnp.int32), ((6, 8),)),
    ],
    "48 of 48 (1)": [
        payload.Dense(jnp.ones((6, 8))),
        payload.LowRank(jnp.ones((6, 1)), jnp.ones((8, 1)), (6, 8)),
        payload.Sign(jnp.ones(6, jnp.uint8), jnp.float32(-1.0), jnp.float32(1.0), (6, 8)),
    ],
}


@pytest.mark.parametrize("sent", PAYLOADS)
def test_payloads_tell_shape_density_and_bits_in_a_line(sent):
    for each in PAYLOADS[sent]:
        bits = int(each.payload_bits())
        assert repr(each) == f"{type(each).__name__}(shape=(6, 8), sent={sent}, bits={bits})"


def test_states_tell_live_fractions_and_totals():
    live = {"a": jnp.arange(1200).reshape(30, 40) % 4 == 0}
    state = masks.MaskState(jnp.int32(1), live, (), (), jnp.float32(0.0))
    assert repr(state) == ("MaskState(step=1, masks={'a': 300 of 1,200 (0.25)}, mask_error=0.0)")
    book = ledger.with_step(ledger.empty(), {"a": jnp.ones((30, 40))})
    assert f"dense_bits={32 * 1200}," in repr(book) and "wire_bytes=0," in repr(book)
    small = masks.compact({"a": jnp.where(live["a"], 1.0, 0.0)}, state)
    assert repr(small) == "Compact(stored={'a': 300 of 1,200 (0.25)})"


def test_states_of_an_exchange_tell_how_much_is_owed_and_print_no_arrays():
    params = {"a": jnp.ones((30, 40)), "b": jnp.ones(4)}
    memories = {2: compress.residual(), 4: compress.momentum_correction(0.9)}
    for trees, memory in memories.items():
        tx = compress.exchange(compress.top_k(0.25), memory)
        _, state = jax.jit(tx.update)(params, tx.init(params), params)
        text = repr(state)
        assert (
            f"memory={trees} arrays of {602 * trees:,} entries, norm " in text
            and "nonfinite=0" in text
        )
        assert "payload_bits=" in text and "Array" not in text and len(text) < 900
    tx = compress.local_steps(optax.adam(0.1), 2, compress.sparse_binary(0.01))
    text = repr(tx.init(params))
    assert text.startswith("LocalStepsState(step=0, anchor=2 arrays of 1,204 entries, norm 34.7, ")
    assert "Array" not in text and "outer=nothing" in text
    assert "anchor=2 arrays of 1,204 entries, " in repr(jax.eval_shape(tx.init, params))
    # A key of jax.random, as optimizers with noise hold one, cannot be looked at.
    assert repr(pretty.extent({"key": jax.random.key(0)})) == "1 arrays of 1 entries"


def test_what_cannot_be_seen_is_shown_without_figures():
    tx = masks.static(optax.sgd(0.1), 0.25, key=jax.random.key(0))
    seen = []

    @jax.jit
    def traced(params):
        state = tx.init(params)
        payloads, _ = compress.top_k(0.1).compress(params, compress.top_k(0.1).init(params))
        seen.extend(map(repr, (state, payloads, ledger.empty())))
        return state

    abstract = jax.eval_shape(traced, {"w": jnp.ones((4, 4))})
    assert "masks={'w': bool[4,4]}" in seen[0] and "Sparse(shape=(4, 4))" in seen[1]
    assert "bool[4,4]" in repr(abstract)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), PAYLOADS["3 of 48 (0.0625)"][0])
    assert repr(stacked) == "Sparse(leaves=[int32[3,5], int32[3], float32[3,5]])"
    assert repr(jax.tree.map(lambda _: None, abstract))  # Of labels, too, a state has a repr.


# treescope looks through all of numpy for names, also at what numpy is about to drop.
@pytest.mark.filterwarnings("ignore:The chararray class:DeprecationWarning")
def test_treescope_shows_the_same():
    treescope = pytest.importorskip("treescope")
    params = model()
    tx = masks.static(optax.sgd(0.1, momentum=0.9), 0.25, key=jax.random.key(0))
    text = treescope.render_to_text(tx.init(params))
    assert "'a/kernel': 6 of 24 (0.25)" in text.replace('"', "'") and "momentum" not in text
    assert "False" not in text and "trace=" in text
    assert "3 of 48 (0.0625)" in treescope.render_to_text(PAYLOADS["3 of 48 (0.0625)"])
    assert "payload_bits" in treescope.render_to_text(ledger.empty())
