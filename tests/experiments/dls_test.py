import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dls import __main__ as command
from experiments.dls import models, record, report, runs
from sparsetrain import data


def test_the_grid_has_every_method_at_every_density_and_one_dense_run_a_seed():
    grid = list(runs.grid(2, 100))
    assert len({run.name for run in grid}) == len(grid)
    assert sum(run.method == "dense" for run in grid) == 2
    cells = {(run.method, run.density) for run in grid if run.method != "dense"}
    sparse = runs.COMPRESSORS.keys() - {"dense"}
    assert cells == {(method, density) for method in sparse for density in (0.01, 0.001, 0.0001)}


def test_nearness_to_the_global_selection_by_hand():
    u = {"a": jnp.array([[10.0, 9.0, 1.0]]), "b": jnp.array([[8.0, -0.1, 0.0]])}
    layer_wise = {"a": jnp.array([[10.0, 0.0, 0.0]]), "b": jnp.array([[8.0, 0.0, 0.0]])}
    found = record.against_global(u, layer_wise)
    assert found["spread"] == pytest.approx(math.log10(10 / 8))
    assert found["overlap"] == pytest.approx(1 / 2)
    assert found["captured"] == pytest.approx((100 + 64) / (100 + 81))
    best = {"a": jnp.array([[10.0, 9.0, 0.0]]), "b": jnp.zeros((1, 3))}
    found = record.against_global(u, best)
    assert (found["overlap"], found["captured"]) == (1, 1)
    # One client each way: the mean.
    both = record.against_global(
        *({k: jnp.concatenate([x[k], y[k]]) for k in x} for x, y in ((u, u), (layer_wise, best)))
    )
    assert both["overlap"] == pytest.approx(3 / 4)


def few_images():
    generator = np.random.default_rng(0)
    split = data.Split(
        generator.integers(0, 256, (40, 28, 28, 1), dtype=np.uint8),
        np.arange(40, dtype=np.int32) % 10,
    )
    return data.Dataset(split, split, split)


def test_the_global_selection_overlaps_with_itself(tmp_path):
    run = runs.Run("global", 0.001, 0, iterations=3, clients=2, batch=4)
    assert record.record(run, tmp_path, few_images)
    assert not record.record(run, tmp_path, few_images)
    content = json.loads((tmp_path / f"{run.name}.json").read_text())
    assert content["curves"]["iteration"] == [1, 2, 3]
    assert content["curves"]["overlap"] == [1.0] * 3
    assert content["curves"]["captured"] == pytest.approx([1.0] * 3)
    assert content["tensors"]["all"]["entries"] == 431_080
    assert content["tensors"]["all"]["sent"] == 3 * 431
    assert content["selection_ms"] > 0


def fake(folder, run, accuracy, overlap):
    content = {
        **{
            field: getattr(run, field)
            for field in ("model", "method", "density", "seed", "iterations")
        },
        "clients": 4,
        "batch": 128,
        "selection_ms": 2.5,
        "summary": {"test_accuracy": accuracy, "compression_ratio": 300.0},
        "curves": {
            "iteration": [1, 2, 5, 50],
            "spread": [9.0, 9.0, 1.0, 2.0],
            "overlap": [9.0, 9.0, overlap, overlap],
            "captured": [9.0, 9.0, 0.5, 0.5],
        },
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_the_report_is_made_from_files_alone(tmp_path):
    for run in runs.grid(2, 10):
        fake(tmp_path, run, 0.9 + 0.02 * run.seed, 0.25 if run.method != "layer-wise" else 0.2)
    fake(tmp_path, runs.Run("dense", 1.0, 0, 5), 0.1, 0.1)  # Shorter: left out.
    fake(tmp_path, runs.Run("global", 0.01, 0, 5, model="resnet20"), 0.3, 1.0)
    report.write(tmp_path)
    written = (tmp_path / "tables.md").read_text()
    (line,) = (line for line in written.splitlines() if line.startswith("| 0.001 | DLS(2)"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:] == [
        *("2", "91.00 ± 1.41", "+0.00 [+0.00, +0.00]", "1.50", "0.25", "0.50"),
        *("6%", "x300", "2.5"),
    ]
    assert "### ResNet-20 on CIFAR-10, 4 clients, 5 iterations" in written
    for density in ("0.01", "0.001", "0.0001"):
        for field in ("spread", "overlap"):
            assert (tmp_path / f"lenet5_{field}_{density}.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_the_tables_of_the_committed_results():
    if not list(report.RESULTS.glob("*_seed*.json")):
        assert "No runs yet" in report.README.read_text()
        return
    wanted = report.text(report.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_resnet_of_few_images(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    split = data.Split(pixels, np.arange(20, dtype=np.int32) % 10)
    model = models.MODELS["resnet20"]
    params = model.init(jax.random.key(0))
    assert 0 <= float(model.accuracy(params, *split)) <= 1
    assert 1 < float(model.loss(params, split)) < 5


def test_the_command_line_runs_the_asked_methods(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main(["--only=global", "--only=dense", f"--out={tmp_path}"])
    assert [run.method for run in seen] == ["dense", "global", "global", "global"]
    assert "4 of 4" in capsys.readouterr().out
