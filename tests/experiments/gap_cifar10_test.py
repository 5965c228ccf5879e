import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.gap_cifar10 import __main__ as command
from experiments.gap_cifar10 import methods, record, report, runs
from sparsetrain import data

TINY = runs.Setting(
    seeds=1, batch=2, phases=3, phase=1, fine_tune=2, every=2, train_each=3, test_each=1
)


def few_images(run=None):
    generator = np.random.default_rng(0)
    split = data.Split(
        generator.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8), np.arange(5, dtype=np.int32)
    )
    return data.Dataset(split, split, split)


def test_the_grid_has_every_method_for_every_seed_and_depth():
    grid = list(runs.grid("full", (20, 32)))
    assert len({run.name for run in grid}) == len(grid) == 2 * 3 * 3
    assert {run.sparsity for run in grid if run.method == "dense"} == {0.0}
    full = runs.SETTINGS["full"]
    assert full.updates == 300 * 358 and full.phases % 3 == 0
    assert {full.phases * full.phase, full.updates} <= set(full.stops())


@pytest.mark.parametrize("depth", [20, 32])
def test_stages_are_the_partitions_and_both_ends_dense(depth):
    run = runs.Run("C-GaP", 0, depth=depth)
    model = methods.network(run)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.ones([1, 32, 32, 3], np.float32))
    owners = methods.partitions(run).assign(shapes["params"])
    counts = [list(owners.values()).count(f"stage_{stage}") for stage in range(3)]
    assert counts == [(depth - 2) // 3] * 3


def test_a_run_becomes_one_file_and_is_never_repeated(monkeypatch, tmp_path):
    monkeypatch.setitem(runs.SETTINGS, "tiny", TINY)
    run = runs.Run("C-GaP", 0, "tiny", depth=8)
    assert record.record(run, tmp_path, few_images)
    path = tmp_path / f"{run.name}.json"
    content = json.loads(path.read_text())
    assert not record.record(run, tmp_path, lambda run: pytest.fail("must not load"))
    assert content["curves"]["update"] == [2, 3, 4, 5]
    # The third stage is dense in the third update and pruned behind it.
    assert content["curves"]["density"] == [
        pytest.approx(each, abs=0.005) for each in (0.775, 0.1, 0.1, 0.1)
    ]
    assert content["summary"]["best_update"] >= 3
    assert 0 <= content["summary"]["test_accuracy"] <= 1
    assert 0 < content["summary"]["mflops"] < 10


def test_batches_are_the_seeds_and_cover_an_epoch(monkeypatch):
    monkeypatch.setitem(runs.SETTINGS, "tiny", dataclasses.replace(TINY, augment=False))
    run = runs.Run("dense", 3, "tiny")
    split = few_images().train
    one, two = ([labels.tolist() for _, labels in record.batches(split, run)] for _ in range(2))
    assert one == two and len(one) == 5
    assert len({*one[0], *one[1]}) == 4
    images, labels = next(iter(record.batches(split, run)))
    np.testing.assert_array_equal(images, split.images[labels])


def test_shifted_images_are_windows_of_the_padded_ones():
    images = few_images().train.images
    moved = record.shifted(images, np.random.default_rng(1))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for image, whole in zip(moved, padded, strict=True):
        windows = (
            whole[row : row + 32, column : column + 32][:, ::side]
            for row in range(9)
            for column in range(9)
            for side in (1, -1)
        )
        assert any(np.array_equal(image, window) for window in windows)


def test_a_setting_reads_the_first_images_of_each_class(monkeypatch):
    monkeypatch.setitem(runs.SETTINGS, "tiny", TINY)
    asked = []
    whole = few_images()._replace(test=data.Split(*(np.arange(30) for _ in range(2))))
    monkeypatch.setattr(record.cifar10_jpeg, "load", lambda folder, n: asked.append(n) or whole)
    for seed in range(2):  # The archive is decoded once.
        found = record.load(runs.Run("dense", seed, "tiny"))
    assert asked == [3] and len(found.train.labels) == 5 and len(found.test.labels) == 10


def fake(folder, run, accuracy):
    content = {
        **dataclasses.asdict(run),
        "summary": {
            "test_accuracy": accuracy,
            "test_accuracy_at_best": accuracy + 0.01,
            "density": 1 - run.sparsity,
            "mflops": 12.345,
        },
        "setting_of_run": dataclasses.asdict(runs.SETTINGS[run.setting]),
        "wall_seconds": 1234.5,
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_the_report_is_made_from_files_alone(tmp_path):
    for run in runs.grid("full", (20, 32)):
        fake(tmp_path, run, 0.9 + 0.01 * run.seed)
    report.write(tmp_path)
    written = (tmp_path / "tables.md").read_text()
    assert "### ResNet-32, `full`: 107,400 updates, batch 128" in written
    row = "| C-GaP | 3 | 0.100 | 91.00 ± 1.00 | 92.00 ± 1.00 | 12.3 | 1,234 |"
    assert written.count(row) == 2


def test_the_readme_shows_the_tables_of_the_committed_results():
    wanted = report.text(report.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_the_command_line_runs_the_asked_methods(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main(["--setting=short", "--only=GMP", "--depth=32", f"--out={tmp_path}"])
    assert [run.name for run in seen] == ["short_resnet32_gmp_sparsity0.9_seed0"]
    assert "1 of 1" in capsys.readouterr().out
