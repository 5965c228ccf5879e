import json
import shutil

import jax
import numpy as np
import pytest

from configs import digits
from sparsetrain import masks
from sparsetrain.training import ConfigError, loop, progress, train_and_evaluate
from sparsetrain.training.metrics import read


class Interrupt(progress.Silent):
    """Stops a run the hard way once it has made some steps."""

    def __init__(self, step):
        self.step = step

    def advance(self, step, metrics=None):
        if step >= self.step:
            raise KeyboardInterrupt


class Notes(progress.Silent):
    def __init__(self):
        self.started, self.evaluations, self.texts = None, 0, []

    def start(self, name, step, total):
        self.started = (name, step, total)

    def advance(self, step, metrics=None):
        self.evaluations += metrics is not None

    def note(self, text):
        self.texts.append(text)


def config(**changes):
    config = digits.get_config()
    config.epochs, config.checkpoint_every, config.angle_examples = 4, 2, 64
    config.model.hidden = (32, 32)
    config.model.dropout = 0.2
    config.backward.density = 0.1
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted, and its folder."""
    workdir = tmp_path_factory.mktemp("whole")
    return train_and_evaluate(config(), workdir, progress.Silent()), workdir


def without_time(history):
    return [{k: v for k, v in record.items() if k != "seconds_per_step"} for record in history]


def assert_same_state(result, whole):
    pairs = zip(
        jax.tree.leaves(result.state._replace(key=None)),
        jax.tree.leaves(whole.state._replace(key=None)),
        strict=True,
    )
    for x, y in pairs:
        np.testing.assert_array_equal(x, y)


def assert_same_end(result, whole):
    assert_same_state(result, whole)
    assert without_time(result.history) == without_time(whole.history)


def test_masks_change_on_time_and_resume_in_the_middle_of_a_phase(tmp_path):
    changes = {"masks.name": "grow_and_prune", "masks.steps_per_phase": 60, "masks.phases": 2}
    whole = train_and_evaluate(config(**changes), tmp_path / "whole", progress.Silent())
    assert whole.summary["density"] < 0.11 < whole.history[0]["density"]
    assert 0 < whole.summary["mask_error"] < 1
    state = masks.find(whole.state.opt_state)
    for path, mask in state.masks.items():
        _, layer, _ = path.split("/")
        kernel = np.asarray(whole.state.variables["params"][layer]["kernel"])
        assert not np.any(kernel[~np.asarray(mask)])
    interrupted = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config(**changes), interrupted, Interrupt(100))
    resumed = train_and_evaluate(config(**changes), interrupted, progress.Silent())
    assert_same_end(resumed, whole)


def test_a_compressed_exchange_counts_its_bits_and_resumes(tmp_path):
    changes = {"compress.name": "sparse_binary", "compress.every": 10, "compress.density": 0.05}
    whole = train_and_evaluate(config(**changes), tmp_path / "whole", progress.Silent())
    sent = [record["bits_sent"] for record in whole.history]
    assert sent == sorted(set(sent)) and sent[0] > 0
    assert whole.summary["bits_sent"] == sent[-1]
    ratio = whole.summary["dense_bits"] / whole.summary["bits_sent"]
    assert whole.summary["compression_ratio"] == pytest.approx(ratio)
    assert whole.summary["compression_ratio"] > 10 / 0.05
    interrupted = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config(**changes), interrupted, Interrupt(100))
    again = train_and_evaluate(config(**changes), interrupted, progress.Silent())
    assert_same_end(again, whole)


def test_what_a_run_writes(whole):
    result, workdir = whole
    assert json.loads((workdir / "config.json").read_text())["model"]["hidden"] == [32, 32]
    assert json.loads((workdir / "summary.json").read_text()) == result.summary
    history = read(workdir / "metrics.jsonl")
    assert history == result.history
    per_epoch = result.summary["steps"] // 4
    assert [(record["epoch"], record["step"]) for record in history] == [
        (epoch, epoch * per_epoch) for epoch in (1, 2, 3, 4)
    ]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert result.summary["test_accuracy"] > 0.5
    assert result.summary["kept_fraction"] == pytest.approx(3 / 32)
    assert result.summary["memory_norm"] > 0
    angles = [name for name in history[0] if name.startswith("gradient_angle")]
    assert angles == [
        "gradient_angle",
        "gradient_angle/hidden_0/kernel",
        "gradient_angle/hidden_1/kernel",
    ]
    assert all(0 < record[name] < np.pi for record in history for name in angles)
    assert {name: result.summary[name] for name in angles} == {
        name: history[-1][name] for name in angles
    }
    assert 0 < result.summary["seconds_per_step"] < 1
    assert int(result.state.step) == result.summary["steps"]


def test_the_best_epoch_is_chosen_on_validation(whole):
    summary, history = whole[0].summary, whole[0].history
    best = max(record["validation_accuracy"] for record in history)
    first = next(record for record in history if record["validation_accuracy"] == best)
    assert summary["best_validation_accuracy"] == best
    assert (summary["best_epoch"], summary["test_accuracy_at_best"]) == (
        first["epoch"],
        first["test_accuracy"],
    )


@pytest.mark.parametrize("epochs_done", [1, 3])  # Before the first checkpoint, and after it.
def test_an_interrupted_run_ends_bit_identical(whole, tmp_path, epochs_done):
    per_epoch = whole[0].summary["steps"] // 4
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config(), tmp_path, Interrupt(epochs_done * per_epoch))
    notes = Notes()
    result = train_and_evaluate(config(), tmp_path, notes)
    assert notes.started[1] == (2 * per_epoch if epochs_done == 3 else 0)
    assert_same_end(result, whole[0])


def test_a_run_whose_last_checkpoint_was_cut_short_ends_bit_identical(whole, tmp_path):
    result, workdir = whole
    shutil.copytree(workdir, tmp_path / "cut")
    last = tmp_path / "cut" / "checkpoints" / str(result.summary["steps"])
    largest = max(last.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    largest.write_bytes(largest.read_bytes()[:-1])
    notes = Notes()
    again = train_and_evaluate(config(), tmp_path / "cut", notes)
    assert notes.started[1] == result.summary["steps"] // 2
    assert len(notes.texts) == 1 and "is not whole" in notes.texts[0]
    assert_same_end(again, result)


def test_calls_of_other_lengths_end_bit_identical(whole, tmp_path):
    result = train_and_evaluate(config(steps_per_call=7), tmp_path, progress.Silent())
    # The loss is then a mean of means, and may differ in its last digits.
    assert_same_state(result, whole[0])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of XLA's compiler for CPUs")
@pytest.mark.parametrize(
    ("model", "in_loop"), [({"name": "mlp", "hidden": (8,)}, True), ({"name": "resnet"}, False)]
)
def test_networks_with_convolutions_take_steps_one_by_one_on_a_cpu(tmp_path, model, in_loop):
    changed = config(**{"backward.rule": "dense", "angle_examples": 0})
    changed.model = model
    run = loop._Run(changed, tmp_path, progress.Silent())
    run.close()
    functions = run.functions
    assert run.steps is (functions.train if in_loop else functions.one_by_one)


def test_a_finished_run_is_read_back(whole):
    result, workdir = whole
    notes = Notes()
    again = train_and_evaluate(config(), workdir, notes)
    assert notes.evaluations == 0
    assert_same_end(again, result)
    assert again.summary == result.summary


def test_another_seed_is_another_run(whole, tmp_path):
    other = train_and_evaluate(config(seed=1), tmp_path, progress.Silent())
    assert other.summary["train_loss"] != whole[0].summary["train_loss"]


def test_the_dense_limit_is_the_dense_run(tmp_path):
    runs = [
        train_and_evaluate(config(epochs=1, **changes), tmp_path / str(number), progress.Silent())
        for number, changes in enumerate(
            ({"backward.rule": "dense"}, {"backward.rule": "top_k", "backward.density": 1.0})
        )
    ]
    assert runs[0].summary["train_loss"] == pytest.approx(runs[1].summary["train_loss"], rel=1e-4)
    assert runs[0].summary["kept_fraction"] == runs[1].summary["kept_fraction"] == 1.0
    assert runs[1].summary["gradient_angle"] < 1e-3


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_row_sparse_gradients_learn(tmp_path, optimizer):
    rate = {"adam": 1e-2, "sgd": 0.2}[optimizer]
    changes = {
        "backward.rule": "unified_top_k",
        "backward.row_sparse": True,
        "backward.density": 0.25,
        "optimizer.name": optimizer,
        "optimizer.learning_rate": rate,
    }
    result = train_and_evaluate(config(**changes), tmp_path, progress.Silent())
    assert result.summary["test_accuracy"] > 0.6
    assert "row_sparse" in result.state.variables
    assert_same_end(train_and_evaluate(config(**changes), tmp_path, progress.Silent()), result)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.name": "cifar11"}, "cifar11"),
        ({"data.batch_size": 0}, "data.batch_size=0: must lie in 1"),
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"backward.density": 1.5}, "density=1.5"),
        ({"backward.layers": "nothing"}, "matched no layer.*hidden_0/kernel"),
        ({"backward.row_sparse": True, "backward.density": 0.5}, "row_sparse=False"),
        ({"model.dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_leaves_nothing(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        train_and_evaluate(config(**changes), tmp_path / "run", progress.Silent())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_config_in_the_same_folder_is_refused(whole):
    _, workdir = whole
    with pytest.raises(
        ConfigError, match=r"optimizer.learning_rate is 0.001 there and 0.01 now.*--workdir"
    ):
        train_and_evaluate(config(**{"optimizer.learning_rate": 0.01}), workdir, progress.Silent())
    assert json.loads((workdir / "config.json").read_text())["optimizer"]["learning_rate"] == 0.001


def test_the_callers_config_is_left_alone(tmp_path):
    asked = config(epochs=1)
    before = asked.to_json()
    train_and_evaluate(asked, tmp_path, progress.Silent())
    assert asked.to_json() == before and not asked.is_locked
    assert loop.Result._fields == ("summary", "history", "state")
