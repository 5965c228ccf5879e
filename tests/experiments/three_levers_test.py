import itertools
import json

import pytest

from experiments.three_levers import __main__ as command
from experiments.three_levers import costs, figure, record, report, runs
from sparsetrain.training import build

ALL = runs.Run(runs.ALL, 0)


def small(config):
    """The digits inside scikit-learn, a small network, short phases."""
    config.data.name, config.data.batch_size = "digits", 10
    # One layer and plain SGD, for the sake of the compiler.
    config.model.hidden = (20,)
    config.optimizer.name, config.compress.momentum_masking = "sgd", None
    config.masks.partitions = (("only", "params/hidden_0/.*"),)
    config.epochs, config.masks.steps_per_phase, config.masks.phases = 2, 10, 2


def test_the_grid_has_every_combination_once_and_its_configs_differ_in_levers_alone():
    grid = list(runs.grid(3))
    assert len({run.name for run in grid}) == len(grid)
    cells = {run.levers for run in grid if run.density is None}
    assert {frozenset(filter(None, cell.split("+"))) for cell in cells} == {
        frozenset(name for name, bit in zip(runs.LEVERS, f"{n:03b}", strict=True) if bit == "1")
        for n in range(8)
    }
    for cell in cells:
        config = runs.Run(cell, 1).config()
        on = {
            "backward": config.backward.rule != "dense",
            "compress": config.compress.name != "dense",
            "masks": config.masks.name != "none",
        }
        assert "+".join(name for name in runs.LEVERS if on[name]) == cell
        assert (config.compress.every == 1) == (not on["compress"])
        rest = config.copy_and_resolve_references()
        for section in runs.LEVERS:
            del rest[section]
        expected = ALL.config()
        expected.seed = 1
        assert all(rest[name] == expected[name] for name in rest)


def test_operations_are_those_counted_by_hand():
    config, steps = runs.Run("", 0).config(), 4400
    rows = 4 * config.data.batch_size
    first, second, last = 2 * rows * 784 * 300, 4 * rows * 300 * 100, 4 * rows * 100 * 10
    dense = costs.backward_flops(config, steps)
    assert dense == {
        "dense": (first + second + last) * steps,
        "needed": dense["dense"],
        "overhead": 0,
    }
    # Each layer is dense in two phases of 550 steps, and has a tenth of its weights in the others.
    share = (1100 + (steps - 1100) * 0.1) / steps
    masked = costs.backward_flops(runs.Run("masks", 0).config(), steps)
    assert masked["needed"] == pytest.approx(((first + second) * share + last) * steps)
    both = costs.backward_flops(runs.Run("backward+masks", 0).config(), steps)
    products = ((first + second) * share * 0.1 + last) * steps
    assert both["needed"] - both["overhead"] == pytest.approx(products)
    assert 0 < both["overhead"] < 0.2 * both["dense"]
    assert both["dense"] == dense["dense"]


def test_all_three_levers_run_together_and_a_run_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "INPUTS", 64)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    assert record.record(ALL, out, scratch, small)
    assert not record.record(ALL, out, scratch, small)
    assert not (scratch / ALL.name).exists()
    content = json.loads((out / f"{ALL.name}.json").read_text())
    assert content["workers_agree"]
    assert 0 < content["bits_sent"] < content["dense_bits"] / 20
    # Every step is booked, also those before a phase began anew.
    assert content["dense_bits"] == 32 * content["weights"] * content["steps"] * 4
    kernels = 64 * 20
    assert content["live_weights"] <= content["weights"] - kernels + kernels // 10 + 1
    assert content["curves"]["density"][-1] == pytest.approx(0.1, abs=0.01)
    assert content["backward_flops"]["needed"] < content["backward_flops"]["dense"]


def fake(folder, run, accuracy, bits=1e6, live=100):
    content = {
        "levers": run.levers,
        "seed": run.seed,
        "density": run.density,
        "epochs": run.epochs,
        "steps": 2200,
        "test_accuracy": accuracy,
        "bits_sent": bits,
        "dense_bits": 1e9,
        "backward_flops": {"dense": 2e12, "needed": 1e12 if run.levers else 2e12, "overhead": 0},
        "weights": 1000,
        "live_weights": live,
        "dead_units": 3,
        "workers_agree": True,
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_the_table_pairs_by_seed_and_the_figure_is_small(tmp_path):
    project = report.PROJECT.read_text()
    for seed in range(2):
        fake(tmp_path, runs.Run("", seed), 0.98 + 0.001 * seed, bits=1e9, live=1000)
        fake(tmp_path, runs.Run("compress", seed), 0.97 + 0.001 * seed)
        fake(tmp_path, runs.Run(runs.ALL, seed), 0.96 + 0.001 * seed)
        fake(tmp_path, runs.Run(runs.ALL, seed, runs.MORE), 0.95)
    report.write(tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "| dense | 2 | 98.05 ± 0.07 | - | 2.000 (1) | 1,000.0 (1) | 1,000 (1) |" in text
    assert (
        "| **MSBP + SBC + C-GaP** | 2 | 96.05 ± 0.07 | -2.00 [-2.00, -2.00] | 1.000 (1/2) | 1.0 (1/1,000) |"
        in text
    )
    assert "MSBP + SBC + C-GaP, SBC at 5%" in text
    picture = (tmp_path / "three_levers.svg").read_bytes()
    assert b"<svg" in picture and len(picture) < 150_000
    report.write(tmp_path)
    assert (tmp_path / "three_levers.svg").read_bytes() == picture
    assert report.PROJECT.read_text() == project
    fake(tmp_path, runs.Run("", 0, epochs=2 * runs.EPOCHS), 0.99, bits=1e9, live=1000)
    assert [record["epochs"] for record in report.load(tmp_path)] == [2 * runs.EPOCHS]


def test_labels_keep_their_order_and_their_distance():
    heights = figure.apart([0.3, 0.0, 0.1, 0.2, 9.0], 1.0)
    assert sorted(range(5), key=heights.__getitem__) == [1, 2, 3, 0, 4]
    ordered = sorted(heights)
    assert min(b - a for a, b in itertools.pairwise(ordered)) >= 1.0 - 1e-9


def test_no_results_and_no_data_are_said_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds no results"):
        report.load(tmp_path)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match="mnist"):
        command.main([f"--out={tmp_path}", f"--scratch={tmp_path}", "--seeds=1"])


def test_the_tables_of_both_readmes_are_those_of_the_results():
    if not report.RESULTS.exists():
        pytest.skip("no results yet")
    records = report.load(report.RESULTS)
    assert report.text(records) in report.README.read_text()
    assert report.headline(report.cells(records)) in report.PROJECT.read_text()


def test_the_config_is_the_cell_with_all_levers():
    config = ALL.config()
    build.optimizer(config.optimizer, False, config.compress, config.masks, "workers")
    assert config.workers == 4
