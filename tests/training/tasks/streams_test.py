import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain.models import WordLSTM
from sparsetrain.training import build, progress, state, step, train_and_evaluate
from sparsetrain.training.tasks import streams, words
from tests.training.loop_test import Interrupt, Notes, assert_same_end
from tests.training.tasks.synthetic import config


def test_every_row_goes_on_where_it_ended():
    found, begins = streams.windows(np.arange(50), rows=3, length=4)
    batches = found.reshape(-1, 3, 5)
    assert begins.reshape(-1, 3)[0].all() and not begins.reshape(-1, 3)[1:].any()
    np.testing.assert_array_equal(batches[1:, :, 0], batches[:-1, :, -1])


def test_the_state_is_carried_on_and_starts_anew_with_the_text():
    plain = WordLSTM(9, hidden=4, layers=1, dropout=0.0, scale=0.5)
    numbers = np.random.default_rng(0).integers(0, 9, 2 * 13).astype(np.int32)
    found, begins = streams.windows(numbers, rows=2, length=4)  # Three windows of two rows.
    task = words.Words(symbols=9, batch=2, length=4, text=len(numbers))
    model = task.module(plain)
    # Jitted, or the zeros of the first state would be one buffer, which cannot be donated twice.
    variables = jax.jit(model.init)(jax.random.key(0), found[:2, :-1], begins[:2])
    functions = step.make(model, optax.sgd(0.0), task=task)
    # Whole rows at once, by the plain model.
    rows = jnp.asarray(numbers.reshape(2, 13))
    logits, _ = plain.apply({"params": variables["params"]}, rows[:, :-1], plain.initial(2))
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()
    used = jax.tree.map(jnp.ones_like, variables["carry"])  # What another text has left there.
    for carry in (variables["carry"], used):
        scores = functions.scores({**variables, "carry": carry}, (found, begins))
        assert float(scores["perplexity"]) == pytest.approx(float(jnp.exp(loss)), rel=1e-5)
    # The same in training, with a learning rate of nothing, twice through the text.
    start = state.TrainState(
        jnp.int32(0), variables, optax.sgd(0.0).init(variables), jax.random.key(0)
    )
    order = np.arange(6, dtype=np.int32).reshape(3, 2)
    end, mean = functions.train(start, (found, begins), order, np.int32(6))
    assert float(mean) == pytest.approx(float(loss), rel=1e-5)
    assert any(leaf.any() for leaf in jax.tree.leaves(end.variables["carry"]))


LEVERS = {
    "workers": 2,
    "compress.name": "sparse_binary",
    "compress.density": 0.2,
    "masks.name": "static",
    "masks.density": 0.5,
    "masks.dense": r"params/(embedding/.*|output/.*)",
    "checkpoint_every": 1,
}


def test_with_all_levers_workers_and_a_kill_the_end_is_the_same_to_the_bit(tmp_path):
    asked = config("characters", **LEVERS)
    notes = Notes()
    whole = train_and_evaluate(asked, tmp_path / "whole", notes)
    assert "fill no window" in notes.texts[0]
    summary = whole.summary
    per_epoch = build.load(asked, 2).task.steps_per_epoch(0, 8)
    assert summary["steps"] == 2 * per_epoch == 2 * ((900 // 8 - 1) // 10)
    assert summary["best_validation_perplexity"] == min(
        record["validation_perplexity"] for record in whole.history
    )
    assert summary["density"] == pytest.approx(0.5, abs=0.01) and summary["bits_sent"] > 0
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(asked, tmp_path / "cut", Interrupt(per_epoch + 1))
    assert_same_end(train_and_evaluate(asked, tmp_path / "cut", progress.Silent()), whole)


def test_a_budget_of_steps_ends_within_an_epoch(tmp_path):
    asked = config("words", **{"backward.rule": "dense"})
    asked.steps = 14
    result = train_and_evaluate(asked, tmp_path, progress.Silent())
    assert result.summary["steps"] == 14 and int(result.state.step) == 14
    assert [record["step"] for record in result.history] == [14]
    again = train_and_evaluate(asked, tmp_path, progress.Silent())
    assert again.summary == result.summary
