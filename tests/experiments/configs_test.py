import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import ml_collections
import pytest

import configs
from sparsetrain.training import build, state
from sparsetrain.training.tasks import Images

MODULES = {
    module.name: importlib.import_module(f"configs.{module.name}")
    for module in pkgutil.iter_modules(configs.__path__)
}
NAMES = sorted(name for name, module in MODULES.items() if hasattr(module, "get_config"))
# Tables have a config a row: see tables_test.py.
SINGLE = [name for name in NAMES if not hasattr(MODULES[name], "ROWS")]
# Those of grow-and-prune are settings for `experiments.gap_settings`: see gap_configs_test.py.
LOOP = [name for name in SINGLE if not name.startswith("gap_")]


def test_there_are_configs():
    assert {"digits", "msbp_mnist"} <= set(NAMES)


@pytest.mark.parametrize("name", LOOP)
def test_every_config_builds(name):
    module = importlib.import_module(f"configs.{name}")
    config = ml_collections.FrozenConfigDict(module.get_config())
    assert config == ml_collections.FrozenConfigDict(module.get_config())  # Pure.
    model, optimizer, _ = build.functions(
        config.model, config.backward, config.optimizer, config.compress, Images(10)
    )
    inputs = jnp.zeros([config.data.batch_size, 28, 28, 1])
    shapes = jax.eval_shape(lambda: state.create(model, optimizer, inputs, config.seed))
    assert "params" in shapes.variables


@pytest.mark.parametrize("name", NAMES)
def test_every_config_tells_its_command_result_and_time(name):
    text = inspect.getdoc(importlib.import_module(f"configs.{name}"))
    assert f"--config=configs/{name}.py" in text
    assert "Expect:" in text and "Time:" in text


@pytest.mark.parametrize("name", LOOP)
def test_every_config_has_the_same_sections(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert {"data", "model", "backward", "optimizer", "seed", "epochs"} <= set(config)


def test_msbp_mnist_is_table_2_of_the_paper():
    config = importlib.import_module("configs.msbp_mnist").get_config()
    assert (config.model.hidden, config.model.dropout) == ((500, 500), 0.1)
    assert (config.data.batch_size, config.epochs) == (32, 20)
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 1e-3)
    (rule,) = build.rules(config.backward).values()
    assert (rule.density * 500, rule.decay) == (20, 0.8)
