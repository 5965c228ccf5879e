"""Every row of every table builds, in the paper's size and in the small one; no array of a model is made."""

import functools
import importlib
import inspect
import json
import pkgutil
import re

import jax
import ml_collections
import pytest

import configs
from sparsetrain import masks
from sparsetrain.training import build
from sparsetrain.training.workers import AXIS

TABLES = {
    name: importlib.import_module(f"configs.{name}")
    for name in sorted(module.name for module in pkgutil.iter_modules(configs.__path__))
    if re.search(r"_(table\d+|matrix)$", name)
}
# What changes neither the shapes of a state nor what is in it.
SAME = (
    "at",
    "before",
    "begin",
    "density",
    "end",
    "every",
    "fine_tune",
    "order",
    "phases",
    "steps_per_phase",
    "until",
)
# Models without rules, each started once: their task and section -> variables in shapes.
started = functools.cache(
    lambda model, task_sizes, inputs: jax.eval_shape(
        MODELS[model, task_sizes].init, jax.random.key(0), *jax.tree.unflatten(*inputs)
    )
)
MODELS = {}


@functools.cache
def loaded(task, data, workers):
    config = ml_collections.ConfigDict({"task": dict(json.loads(task)), "data": json.loads(data)})
    return build.load(config, workers)


def synthetic(config):
    """The task of a config on synthetic examples of its sizes, and a batch of them in shapes."""
    task, data = config.task.to_dict(), config.data.to_dict() | {"name": "synthetic"}
    sizes = data["sizes"]
    if task["name"] in ("tagging", "parsing", "translation"):
        task["least"] = 1
    if task["name"] in ("words", "characters"):
        sizes["count"] = 40 * data["batch_size"] * config.workers * task["length"]
    if task["name"] == "point_clouds":
        sizes["points"] = task.get("points", sizes["points"])
    for ours in ("label_smoothing", "mixup"):
        task.pop(ours, None)  # Of the loss alone.
    found = loaded(*(json.dumps(part, sort_keys=True) for part in (task, data)), config.workers)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((data["batch_size"], *leaf.shape[1:]), leaf.dtype),
        found.train,
    )
    return found.task, batch


@functools.cache
def optimizer_started(kind):
    optimizer, variables = OPTIMIZERS[kind]
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), variables)
    return jax.eval_shape(jax.vmap(optimizer.init, axis_name=AXIS), one)


OPTIMIZERS = {}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_builds(name):
    module = TABLES[name]
    assert module.ROWS and module.get_config() == module.get_config()  # Pure.
    for row in [row + end for row in module.ROWS for end in ("", "_small")]:
        config = module.get_config(row)
        task, batch = synthetic(config)
        frozen = ml_collections.FrozenConfigDict(config)
        model = build.model(
            frozen.model, build.rules(frozen.backward), task, False, frozen.backward.get("turns")
        )
        inputs, structure = jax.tree.flatten(jax.eval_shape(task.inputs, batch))
        key = frozen.model, (task.name, frozen.backward, tuple(task.sizes.items()))
        axis_name = build.workers(config.workers).axis_name
        sections = (frozen.optimizer, False, frozen.compress, frozen.masks, axis_name)
        optimizer = build.optimizer(*sections)
        MODELS.setdefault(key, model)
        variables = started(*key, (structure, tuple(inputs)))
        if config.backward.rule == "memorized_top_k":
            assert jax.tree.leaves(variables["memory"]), row
        sparsity = config.masks.to_dict() | dict.fromkeys(SAME)
        exchange = config.compress.to_dict() | {"density": None, "every": config.compress.every > 1}
        if not row.endswith("_small"):
            # All methods are started on the small models, and on the large ones those with other partitions.
            sparsity, exchange = {"partitions": sparsity["partitions"]}, {}
        parts = [exchange, sorted(config.optimizer), str(key)]
        parts += [sparsity] * (config.masks.name != "none")
        kind = json.dumps(parts, default=str, sort_keys=True)
        OPTIMIZERS.setdefault(kind, (optimizer, variables))
        assert masks.are_in(optimizer_started(kind)) == (config.masks.name != "none"), row


@pytest.mark.parametrize("name", TABLES)
def test_commands_that_are_told_are_of_rows_that_there_are(name):
    told = re.findall(rf"--config=configs/{name}\.py:(\w+)", inspect.getdoc(TABLES[name]))
    assert told
    for row in told:
        config = TABLES[name].get_config(row)
    for field in re.findall(r"--config\.([\w.]+)=", inspect.getdoc(TABLES[name])):
        section, _, last = field.rpartition(".")
        assert last in (config[section] if section else config), field


def test_an_unknown_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="row 'pos' is none of mnist_dense, mnist_sbp"):
        TABLES["msbp_table2"].get_config("pos")


def test_settings_are_the_papers():
    pos = TABLES["msbp_table2"].get_config("pos_msbp")
    assert (pos.model.hidden, pos.model.dropout, pos.data.batch_size, pos.epochs) == (
        500,
        0.5,
        128,
        10,
    )
    assert (pos.backward.density, pos.backward.decay) == (0.04, 0.8)
    words = TABLES["sbc_table1"].get_config("word_lstm_sbc3")
    assert (words.steps, words.workers, words.data.batch_size) == (60_000, 4, 5)
    assert (words.compress.every, words.compress.density) == (100, 0.01)
    c_gap, p_gap = (TABLES["gap_table1"].get_config(f"{name}_gap_90") for name in "cp")
    per_epoch = 1_281_167 // 2048
    assert c_gap.steps == 990 * per_epoch and c_gap.masks.steps_per_phase == 30 * per_epoch
    assert dict(c_gap.masks.fine_tune) == {"decay_steps": 150 * per_epoch}
    assert (p_gap.workers, p_gap.masks.phases, p_gap.steps) == (4, 8, 390 * per_epoch)
