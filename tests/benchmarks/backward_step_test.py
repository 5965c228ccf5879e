import jax
import jax.numpy as jnp
import pytest

from benchmarks import backward_step

CASE = backward_step.QUICK_CASES[0]


@pytest.fixture(scope="module")
def candidates():
    found = backward_step.candidates(CASE, r"^unified \+ memory, row_sparse.adam out_in")
    return {candidate.name: candidate for candidate in found}


def test_both_forms_of_baselines_and_rows_are_there(candidates):
    rows = ("dense, optax.adam", "dense, optax.sgd", "unified + memory, row_sparse.adam out_in")
    assert list(candidates) == [f"{row} ({form})" for row in rows for form in ("one call", "scan")]
    assert [c.steps for c in candidates.values()] == [1, CASE.scanned] * 3
    assert [c.against for c in candidates.values()] == [()] * 4 + [("adam",)] * 2


@pytest.mark.parametrize("row", ["dense, optax.adam", "unified + memory, row_sparse.adam out_in"])
def test_the_forms_train_one_state_in_turn(candidates, row):
    """A step and a scan count on from each other, and the loss of batches seen again falls."""
    loss, (_, state) = candidates[f"{row} (one call)"].run(0)
    before = _steps(state)
    losses, (_, state) = candidates[f"{row} (scan)"].run(0)
    assert loss.shape == () and losses.shape == (CASE.scanned,)
    assert _steps(state) == before + CASE.scanned
    for _ in range(5):
        later, _ = candidates[f"{row} (scan)"].run(0)
    assert float(jnp.mean(later)) < float(jnp.mean(losses))


def _steps(state):
    counts = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.int32 and not leaf.ndim]
    return max(int(count) for count in counts)
