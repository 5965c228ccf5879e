import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from sparsetrain.training import build, state
from tests.training.tasks.synthetic import DECODER, config


def test_rules_take_turns_and_the_other_ones_are_dense():
    asked = ml_collections.FrozenConfigDict(config("translation"))
    loaded = build.load(asked, 1)
    sections = (asked.model, asked.backward, asked.optimizer, asked.compress)
    model, optimizer, functions = build.functions(*sections, loaded.task)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:4]), loaded.train)
    begin = jax.jit(lambda: state.create(model, optimizer, loaded.task.inputs(batch), 0))()
    order = np.arange(8, dtype=np.int32).reshape(2, 4)
    memories = [begin.variables["memory"]]
    held = begin
    for _ in range(3):
        held, _ = functions.train(held, loaded.train, order, np.int32(1))
        memories.append(jax.tree.map(np.asarray, held.variables["memory"]))
    encoder = [m["attention"]["kernel"] for m in memories[1:]]
    decoder = [m["decoder"]["combine"]["kernel"] for m in memories[1:]]
    # Even steps are the first rule's, odd ones the other's.
    assert encoder[0].any() and not decoder[0].any()
    assert (encoder[1] == encoder[0]).all() and decoder[1].any()
    assert (encoder[2] != encoder[1]).any() and (decoder[2] == decoder[1]).all()


def test_turns_name_every_rule():
    asked = config("translation")
    asked.backward.turns = (DECODER,)
    task = build.load(asked, 1).task
    with pytest.raises(ValueError, match="must name each of the rules"):
        build.model(asked.model, build.rules(asked.backward), task, False, asked.backward.turns)
