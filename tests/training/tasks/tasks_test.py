"""The same list for every task: it learns behind a backward rule, in the one step; each model with all three levers
at once is in tests/models/levers_test.py."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from sparsetrain.training import build, progress, state, step, train_and_evaluate
from sparsetrain.training.tasks import TASKS, Task
from tests.training.tasks.synthetic import SMALL, config

STEPS = 30


@pytest.mark.parametrize("name", TASKS)
def test_every_task_learns_behind_a_backward_rule(name):
    asked = ml_collections.FrozenConfigDict(config(name))
    loaded = build.load(asked, 1)
    task = loaded.task
    assert isinstance(task, Task) and task.name == name and hash(task) == hash(loaded.task)
    model, optimizer, functions = build.functions(
        asked.model, asked.backward, asked.optimizer, asked.compress, task, asked.masks
    )
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:4]), loaded.train)
    begin = jax.jit(lambda: state.create(model, optimizer, task.inputs(batch), 0))()
    per_epoch = task.steps_per_epoch(loaded.examples, 4)
    assert 1 <= per_epoch * 4 <= loaded.examples
    order = np.arange(per_epoch * 4, dtype=np.int32).reshape(per_epoch, 4)
    first, before = functions.train(begin, loaded.train, order, np.int32(3))
    middle, _ = functions.train(first, loaded.train, order, np.int32(STEPS - 6))
    end, after = functions.train(middle, loaded.train, order, np.int32(3))
    assert float(after) < 0.97 * float(before), (before, after)
    assert any(leaf.any() for leaf in jax.tree.leaves(end.variables["memory"]))
    if loaded.test is not None:
        scores = functions.scores(end.variables, loaded.test)
        assert task.score in scores and all(np.isfinite(float(v)) for v in scores.values())
    plain = model.model
    dense = step.without(end.variables, *step.SPARSE_COLLECTIONS)
    for scorer in filter(None, (loaded.at_evaluation, loaded.at_end)):
        assert all(0 <= value <= 1 for value in scorer(plain, dense, "test").values())


def test_a_task_refuses_models_and_settings_that_are_not_its_own():
    asked, task = config("words"), build.load(config("words"), 1).task
    asked.model = ml_collections.ConfigDict({"name": "mlp"})
    with pytest.raises(ValueError, match="no model of the task words; choose one of word_lstm"):
        build.model(asked.model, {}, task, row_sparse=False)
    asked.task.nothing = 1
    with pytest.raises(ValueError, match=r"task\.nothing: words has no such setting"):
        build.load(asked, 1)
    with pytest.raises(ValueError, match=r"task\.name='poetry' is unknown; choose one of char"):
        build.load(config("words", **{"task.name": "poetry"}), 1)


def test_synthetic_configs_are_of_all_tasks():
    assert SMALL.keys() == TASKS.keys()
    assert all(dataclasses.is_dataclass(build.load(config(name), 1).task) for name in TASKS)


def test_the_loop_takes_a_plain_model_that_has_a_field_called_layers(tmp_path):
    asked = config("tagging", **{"backward.rule": "dense"})
    summary = train_and_evaluate(asked, tmp_path, progress.Silent()).summary
    assert summary["kept_fraction"] == 1 and summary["memory_norm"] == 0
    assert 0.3 < summary["test_accuracy"] <= 1
