import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward
from sparsetrain.models import MLP
from sparsetrain.training import state
from sparsetrain.training.checkpoint import Checkpoints


def create(rule=None):
    rule = rule or backward.memorized_top_k(density=0.25, decay=0.8)
    model = backward.linen.sparsify(MLP(hidden=(8,)), {r"hidden.*/kernel": rule})
    optimizer = backward.carry_memory(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)))
    return state.create(model, optimizer, jnp.zeros([4, 3]), seed=5)


def at(run, step):
    """A state with other numbers in every leaf."""
    changed = jax.tree.map(lambda x: x + step, run._replace(key=None))
    return changed._replace(step=jnp.asarray(step, jnp.int32), key=run.key)


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    for x, y in pairs:
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def break_files(folder):
    """Cuts every file of a checkpoint in half, as a full disk or a lost page would."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def abstract():
    return jax.eval_shape(create)


def test_nothing_there_is_none(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(abstract) is None
    checkpoints.close()


@pytest.mark.parametrize(
    "rule", [None, backward.top_k(density=0.25), backward.random_k(0.25, key=0)]
)
def test_round_trip_is_exact(tmp_path, rule):
    saved = at(create(rule), 7)
    Checkpoints(tmp_path).save(saved)
    restored = Checkpoints(tmp_path).restore(jax.eval_shape(lambda: create(rule)))
    assert_identical(restored, saved)
    # Even without a memory: its presence is what makes the backward pass sparse.
    assert "memory" in restored.variables


def test_the_last_two_are_kept(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(at(create(), step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    assert int(checkpoints.restore(abstract).step) == 3


def test_a_broken_last_one_gives_way_to_the_one_before(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(at(create(), step))
    checkpoints.close()
    break_files(tmp_path / "2")
    notes = []
    checkpoints = Checkpoints(tmp_path)
    restored = checkpoints.restore(abstract, notes.append)
    assert_identical(restored, at(create(), 1))
    assert len(notes) == 1 and notes[0].startswith("checkpoint 2 cannot be read")
    checkpoints.save(at(create(), 2))  # The run gets there again.
    assert int(Checkpoints(tmp_path).restore(abstract).step) == 2


def test_an_unfinished_one_is_not_looked_at(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(create(), 1))
    checkpoints.close()
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    notes = []
    assert int(Checkpoints(tmp_path).restore(abstract, notes.append).step) == 1
    assert notes == []


def test_all_broken_is_an_error_with_the_cure(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(create(), 1))
    checkpoints.close()
    break_files(tmp_path / "1")
    with pytest.raises(
        ValueError, match=r"none of the checkpoints \[1\].*delete the work directory"
    ):
        Checkpoints(tmp_path).restore(abstract)
