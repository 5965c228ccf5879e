import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward
from sparsetrain.models import MLP
from sparsetrain.training import inventory, state
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
    assert len(notes) == 1 and notes[0].startswith("checkpoint 2 is not whole: ")
    assert notes[0].endswith("; it is deleted, and the run goes on from checkpoint 1")
    checkpoints.save(at(create(), 2))  # The run gets there again.
    assert int(Checkpoints(tmp_path).restore(abstract).step) == 2


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder with checkpoints 1 and 2."""
    folder = tmp_path_factory.mktemp("two")
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(at(create(), step))
    checkpoints.close()
    return folder


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
    ],
    ids=["missing", "empty", "half", "without its last byte"],
)
def test_no_damage_to_a_file_makes_a_state_that_was_never_saved(two, tmp_path, abstract, harm):
    names = [path.relative_to(two) for path in sorted((two / "2").rglob("*")) if path.is_file()]
    names.remove(Path("2") / inventory.NAME)
    assert len(names) > 8
    for turn, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(turn))
        harm(folder / name)
        notes = []
        checkpoints = Checkpoints(folder)
        restored = checkpoints.restore(abstract, notes.append)
        assert_identical(restored, at(create(), 1))
        assert len(notes) == 1 and str(name.relative_to("2")) in notes[0]
        assert not (folder / "2").exists()
        checkpoints.close()


def test_nor_does_a_changed_byte(two, tmp_path, abstract):
    # Orbax alone would restore other weights.
    folder = shutil.copytree(two, tmp_path / "changed")
    largest = max((folder / "2").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    notes = []
    assert_identical(Checkpoints(folder).restore(abstract, notes.append), at(create(), 1))
    assert "has other bytes than were written" in notes[0]


def test_nor_does_a_folder_that_is_missing(two, tmp_path, abstract):
    folders = [path.relative_to(two) for path in sorted((two / "2").rglob("*")) if path.is_dir()]
    assert len(folders) > 2
    for turn, name in enumerate(folders):
        folder = shutil.copytree(two, tmp_path / str(turn))
        shutil.rmtree(folder / name)
        assert_identical(Checkpoints(folder).restore(abstract), at(create(), 1))


@pytest.mark.parametrize(("harm", "step"), [(b"", 1), (b"{", 1), (None, 2)])
def test_a_damaged_inventory_counts_as_damage_and_none_as_an_older_version(
    two, tmp_path, abstract, harm, step
):
    folder = shutil.copytree(two, tmp_path / "copy")
    (folder / "2" / inventory.NAME).unlink()
    if harm is not None:
        (folder / "2" / inventory.NAME).write_bytes(harm)
    assert_identical(Checkpoints(folder).restore(abstract), at(create(), step))


def test_nor_does_damage_to_what_older_versions_wrote(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.unlisted", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert "are states that were saved" in done.stdout


def test_an_empty_one_gives_way_too(two, tmp_path, abstract):
    folder = shutil.copytree(two, tmp_path / "empty")
    shutil.rmtree(folder / "2")
    (folder / "2").mkdir()
    notes = []
    assert int(Checkpoints(folder).restore(abstract, notes.append).step) == 1
    assert notes == [
        "checkpoint 2 is not whole: it is empty; it is deleted, and the run goes on from checkpoint 1"
    ]


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
