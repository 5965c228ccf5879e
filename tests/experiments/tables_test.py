"""Every row of every table builds, in the paper's size and in the small one; no array is made."""

import functools
import importlib
import inspect
import json
import pkgutil
import re

import jax
import jax.numpy as jnp
import ml_collections
import pytest

import configs
from sparsetrain.training import build, state
from sparsetrain.training.workers import Workers

TABLES = {
    name: importlib.import_module(f"configs.{name}")
    for name in sorted(module.name for module in pkgutil.iter_modules(configs.__path__))
    if re.search(r"_(table\d+|matrix)$", name)
}
# Learning rates and how long things take change neither shapes nor programs' structure.
TIMES = ("steps_per_phase", "at", "begin", "end", "until", "every", "density", "fine_tune", "phases")


def abstract(config):
    """The config on synthetic examples of its sizes: task, and a batch in shapes."""
    with config.data.ignore_type():
        config.data.name = "synthetic"
    for least in ("least", "length", "shapes"):
        if least in config.task and least != "length":
            del config.task[least]
    if config.task.name in ("tagging", "parsing", "translation"):
        config.task.least = 1
    loaded = load(json.dumps([config.task.to_dict(), config.data.to_dict(), config.workers]))
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((config.data.batch_size, *leaf.shape[1:]), leaf.dtype),
        loaded.train,
    )
    return loaded.task, batch


@functools.cache
def load(sections):
    task, data, workers = json.loads(sections)
    if task["name"] in ("words", "characters"):
        data["sizes"]["count"] = 40 * data["batch_size"] * workers * task["length"]
    config = ml_collections.ConfigDict({"task": task, "data": data})
    return build.load(config, workers)


@functools.cache
def started(model_config, backward_config, task, batch):
    shapes = jax.tree.unflatten(batch[0], batch[1])
    table = build.rules(backward_config)
    model = build.model(model_config, table, task, False, backward_config.get("turns"))
    inputs = jax.eval_shape(task.inputs, shapes)
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)


@functools.cache
def optimizer_started(key):
    optimizer, variables = HELD[key]
    return jax.eval_shape(optimizer.init, variables)


HELD = {}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_builds(name):
    module = TABLES[name]
    assert module.ROWS and module.get_config() == module.get_config()  # Pure.
    for row in [row + end for row in module.ROWS for end in ("", "_small")]:
        config = module.get_config(row)
        assert config.epochs >= 1 and config.lock().is_locked
        config.unlock()
        task, batch = abstract(config)
        frozen = ml_collections.FrozenConfigDict(config)
        leaves, structure = jax.tree.flatten(batch)
        variables = started(frozen.model, frozen.backward, task, (structure, tuple(leaves)))
        workers = build.workers(config.workers)
        optimizer = build.optimizer(
            frozen.optimizer, False, frozen.compress, frozen.masks, workers.axis_name
        )
        kind = {k: v for k, v in config.masks.to_dict().items() if k not in TIMES}
        kind |= {"compress": config.compress.name, "optimizer": config.optimizer.name}
        kind |= {"model": config.model.to_dict(), "workers": config.workers}
        key = json.dumps(kind, default=str, sort_keys=True)
        HELD.setdefault(key, (optimizer, variables))
        if config.workers == 1:
            assert jax.tree.leaves(optimizer_started(key)), row


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_in_the_table_of_its_module(name):
    text = inspect.getdoc(TABLES[name])
    assert f"--config=configs/{name}.py:" in text
    for line in re.findall(r"--config=configs/\w+\.py:(\w+)", text):
        TABLES[name].get_config(line)  # Commands that are told are of rows that there are.


def test_an_unknown_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="row 'pos' is none of mnist_dense, mnist_sbp"):
        TABLES["msbp_table2"].get_config("pos")
