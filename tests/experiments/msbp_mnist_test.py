import collections
import json
import math
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import stats

from experiments import results as published
from experiments.markdown import difference
from experiments.msbp_mnist import __main__ as command
from experiments.msbp_mnist import record as recording
from experiments.msbp_mnist import report, results, runs, tables
from experiments.statistics import paired_difference
from sparsetrain import data, selection
from sparsetrain.training import build, state, train_and_evaluate
from sparsetrain.training.progress import Silent
from sparsetrain.training.tasks import Images
from sparsetrain.training.tasks.images import pixels

HIDDEN, BATCH = 24, 32


def shrink(config):
    """The same code on the digits of scikit-learn."""
    config.data.name, config.model.dropout, config.angle_examples = "digits", 0.0, 0


def small(method, kept, decay=0.0, seed=0, epochs=2):
    return runs.Run(method, kept, decay, seed, epochs, HIDDEN)


@pytest.fixture(scope="module")
def grid():
    """A few small runs, unbalanced as a grid that was cut short."""
    return [
        small("dense", None),
        small("msbp", 3, 0.8),
        small("dense", None, seed=1),
    ]


@pytest.fixture(scope="module")
def out(grid, tmp_path_factory):
    folder = tmp_path_factory.mktemp("msbp_mnist")
    for run in grid:
        assert recording.record(run, folder / "out", folder / "scratch", shrink)
    assert list((folder / "scratch").iterdir()) == []
    return folder / "out"


def test_the_grid_is_what_the_issue_asks_for():
    table = list(runs.table2(5))
    assert len({run.name for run in table}) == len(table)
    lines = collections.Counter((run.method, run.kept, run.decay) for run in table)
    assert set(lines.values()) == {5}
    wanted = {("dense", None, 0.0)}
    for kept in (5, 20):
        wanted |= {("sbp", kept, 0.0), ("msbp", kept, 0.8)}
        wanted |= {("unified", kept, 0.0), ("unified", kept, 0.8)}
    assert lines.keys() == wanted
    # Every method of a seed comes before the next seed.
    assert [run.seed for run in table] == sorted(run.seed for run in table)
    cells = {(run.kept, run.decay) for run in runs.figures(3, 3) if run.kept}
    assert cells == {(k, decay) for k in (5, 10, 20) for decay in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)}


def test_densities_keep_exactly_k_and_every_config_can_be_built():
    for run in [*runs.table2(1), *runs.rows(1), *runs.figures(1, 3), *runs.table5(1)]:
        config = run.config()
        kept = selection.count(run.hidden, config.backward.density)
        assert kept == (run.kept or run.hidden)
        rules = build.rules(config.backward)
        assert bool(rules) == (run.method != "dense")
        for rule in rules.values():
            assert getattr(rule, "decay", 0.0) == run.decay


def test_runs_of_one_seed_start_from_the_same_weights():
    def params(run):
        config = run.config()
        shrink(config)
        model, optimizer, _ = build.functions(
            *(frozen(config)[part] for part in ("model", "backward", "optimizer", "compress")),
            Images(10),
        )
        images = pixels(data.load("digits").train.images[:BATCH])
        return state.create(model, optimizer, images, config.seed).variables["params"]

    dense, sparse = params(small("dense", None)), params(small("msbp", 3, 0.8))
    rows, other = params(small("unified_rows", 3)), params(small("dense", None, seed=1))
    for name in ("hidden_0", "hidden_1"):
        # The row-sparse form stores a kernel with its outputs first.
        rows[name]["kernel"] = rows[name]["kernel"].T
    for same in (sparse, rows):
        jax.tree.map(np.testing.assert_array_equal, dense, same)
    assert not np.array_equal(dense["output"]["kernel"], other["output"]["kernel"])


def frozen(config):
    import ml_collections

    return ml_collections.FrozenConfigDict(config)


def test_a_finished_run_is_never_repeated(grid, out, tmp_path):
    path = out / f"{grid[0].name}.json"
    before = path.read_bytes()
    assert not recording.record(grid[0], out, tmp_path, shrink)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_a_run_cut_off_leaves_no_result_and_continues_to_the_same_end(
    grid, out, tmp_path, monkeypatch
):
    def cut_off(config, workdir, progress):
        class Stop(Silent):
            def advance(self, step, metrics=None):
                if metrics is not None and metrics["epoch"] == 2:
                    raise KeyboardInterrupt

        return train_and_evaluate(config, workdir, Stop())

    def often(config):
        shrink(config)
        config.checkpoint_every = 1

    run = grid[0]
    with monkeypatch.context() as patch:
        patch.setattr(recording, "train_and_evaluate", cut_off)
        with pytest.raises(KeyboardInterrupt):
            recording.record(run, tmp_path / "out", tmp_path / "scratch", often)
    assert not (tmp_path / "out").exists()
    assert recording.record(run, tmp_path / "out", tmp_path / "scratch", often)
    again = json.loads((tmp_path / "out" / f"{run.name}.json").read_text())
    there = json.loads((out / f"{run.name}.json").read_text())
    assert again["curves"] == there["curves"]
    assert again["angles"] == there["angles"]


def test_what_a_result_holds(grid, out):
    content = json.loads((out / f"{grid[1].name}.json").read_text())
    assert (content["method"], content["kept"], content["decay"], content["seed"]) == (
        "msbp",
        3,
        0.8,
        0,
    )
    assert all(len(curve) == 2 for curve in content["curves"].values())
    assert content["summary"]["kept_fraction"] == pytest.approx(3 / HIDDEN)
    assert content["summary"]["memory_norm"] > 0
    best = np.argmax(content["curves"]["validation_accuracy"])
    assert content["summary"]["test_accuracy_at_best"] == content["curves"]["test_accuracy"][best]


def test_angles_of_the_dense_run_are_zero(grid, out):
    found = json.loads((out / f"{grid[0].name}.json").read_text())["angles"]
    assert found["all"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("moving", [False, True])
def test_angles_equal_backpropagation_by_hand(tmp_path, moving):
    decay = 0.8
    config = small("msbp", 3, decay, epochs=1).config()
    shrink(config)
    result = train_and_evaluate(config, tmp_path, Silent())
    found = recording.angles(config, result.state, moving)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), result.state.variables)
    params, train = variables["params"], data.load("digits").train
    examples = len(train.images) // BATCH * BATCH

    def gradient(kept):
        memory = {name: np.zeros(HIDDEN) for name in ("hidden_0", "hidden_1")}
        if kept < HIDDEN:
            memory = {name: variables["memory"][name]["kernel"] / BATCH for name in memory}
            assert all(np.abs(m).max() > 0 for m in memory.values())
        sums = collections.defaultdict(float)
        for start in range(0, examples, BATCH):
            x = train.images[start : start + BATCH].reshape(-1, 64) / 255.0
            y = train.labels[start : start + BATCH]
            inputs = [x]
            for name in memory:
                h = inputs[-1] @ params[name]["kernel"] + params[name]["bias"]
                inputs.append(np.maximum(h, 0))
            logits = inputs[-1] @ params["output"]["kernel"] + params["output"]["bias"]
            p = np.exp(logits - logits.max(1, keepdims=True))
            d = (p / p.sum(1, keepdims=True) - np.eye(10)[y]) / BATCH
            for number, name in ((2, "output"), (1, "hidden_1"), (0, "hidden_0")):
                sums[f"{name}/bias"] += d.sum(0)
                if name != "output":
                    u = d + memory[name]
                    d = u.copy()
                    dropped = np.argsort(-np.abs(u), axis=1, kind="stable")[:, kept:]
                    np.put_along_axis(d, dropped, 0, axis=1)
                    if moving:
                        memory[name] = decay * (u - d).mean(0)
                sums[f"{name}/kernel"] += inputs[number].T @ d
                d = (d @ params[name]["kernel"].T) * (inputs[number] > 0)
        return sums

    sparse, dense = gradient(3), gradient(HIDDEN)

    def angle(names):
        a, b = (np.concatenate([g[name].ravel() for name in names]) for g in (sparse, dense))
        return math.acos(min(1.0, a @ b / (np.linalg.norm(a) * np.linalg.norm(b))))

    assert found.keys() == dense.keys() | {"all"}
    assert angle(["hidden_1/kernel"]) > 0.3
    for name in dense:
        assert found[name] == pytest.approx(angle([name]), abs=2e-3), name
    assert found["all"] == pytest.approx(angle(list(dense)), abs=2e-3)


def test_a_difference_without_a_pair_is_a_dash():
    assert difference(paired_difference({0: 2.0}, {1: 1.0})) == "-"


def fake(folder, run, accuracy, best=None):
    """A result file with chosen accuracies."""
    curve = [accuracy] * run.epochs
    content = {
        **{field: getattr(run, field) for field in ("method", "kept", "decay", "seed", "epochs")},
        "hidden": run.hidden,
        "summary": {
            "test_accuracy": accuracy,
            "test_accuracy_at_best": accuracy if best is None else best,
            "kept_fraction": 0.04,
            "memory_norm": 0.5,
            "train_loss": 0.1,
        },
        "angles": {"all": math.pi / 2, "hidden_0/kernel": 0.0, "hidden_1/kernel": 1.0},
        "angles_moving": {"all": math.pi / 4, "hidden_0/kernel": 0.0, "hidden_1/kernel": 1.0}
        if run.decay
        else None,
        "curves": {"validation_accuracy": curve},
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def row(text, start):
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_2_by_hand(tmp_path):
    for seed, (dense, sbp) in enumerate(((0.98, 0.96), (0.97, 0.96), (0.99, 0.96))):
        fake(tmp_path, runs.Run("dense", None, 0.0, seed, 4), dense)
        fake(tmp_path, runs.Run("sbp", 20, 0.0, seed, 4), sbp, best=0.97)
    fake(tmp_path, runs.Run("msbp", 20, 0.8, 1, 4), 0.965)
    fake(tmp_path, runs.Run("msbp", 20, 0.8, 0, 2), 0.1)  # Another length: not in the table.
    cells = results.load(tmp_path)
    table = tables.accuracy(cells, 500, 4)
    assert row(table, "| dense") == ["dense", "all", "3", "98.00 ± 1.00", "98.00 ± 1.00", "97.86"]
    assert row(table, "| SBP") == ["SBP", "20", "3", "97.00 ± 0.00", "96.00 ± 0.00", "97.84"]
    assert row(table, "| MSBP") == ["MSBP, decay .8", "20", "1", "96.50", "96.50", "98.23"]
    table = tables.differences(cells, 500, 4)
    half = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert row(table, "| SBP")[3] == f"-2.00 [{-2 - half:+.2f}, {-2 + half:+.2f}]"
    assert row(table, "| MSBP")[2:] == ["-0.50", "-0.50", "-0.50", "+0.50"]
    diagnostics = tables.diagnostics(cells, 500, 4)
    assert row(diagnostics, "| SBP")[3] == "90.0"
    assert row(diagnostics, "| MSBP")[3] == "45.0 / 90.0"


def test_the_report_is_made_from_files_alone(tmp_path):
    for seed in (0, 1):
        fake(tmp_path, runs.Run("dense", None, 0.0, seed, 4), 0.98)
        for kept in (5, 20):
            fake(tmp_path, runs.Run("sbp", kept, 0.0, seed, 4), 0.96 + 0.001 * seed)
    for run in runs.figures(1, 2):
        fake(tmp_path, run, 0.9)
    report.write(tmp_path)
    assert not (tmp_path / "figure3_spread.png").exists()  # One seed has no spread.
    for run in runs.figures(2, 2):
        fake(tmp_path, run, 0.9 + 0.001 * run.seed)
    report.write(tmp_path)
    written = (tmp_path / "tables.md").read_text()
    assert "Table 2 (MNIST): MLP 784-500-500-10, 4 epochs" in written
    assert "Figures 2, 3 and 5: k and decay, 2 epochs" in written
    assert "Table 5" not in written
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == [
        "curves_k20.png",
        "curves_k5.png",
        "figure2_accuracy.png",
        "figure3_spread.png",
        "figure5_angle.png",
    ]
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_real_results_pass_through_the_tables(grid, out):
    cells = results.load(out)
    assert sum(map(len, cells.values())) == len(grid)
    table = tables.accuracy(cells, HIDDEN, 2)
    accuracies = [
        100 * json.loads((out / f"{run.name}.json").read_text())["summary"]["test_accuracy"]
        for run in (grid[0], grid[2])
    ]
    assert row(table, "| dense")[2] == "2"
    mean = float(row(table, "| dense")[4].split(" ")[0])
    assert mean == pytest.approx(np.mean(accuracies), abs=0.006)


def test_the_readme_shows_the_tables_of_the_committed_results():
    wanted = report.text(results.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_embedding_needs_its_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"a\n{published.BEGIN}\nold\n{published.END}\nb\n")
    published.embed(page, "new")
    assert page.read_text() == f"a\n{published.BEGIN}\nnew\n{published.END}\nb\n"
    page.write_text("a")
    with pytest.raises(ValueError, match="no place for the tables"):
        published.embed(page, "new")


def test_the_command_line_runs_the_asked_part(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out, scratch: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main(["--only=table2", "--seeds=2", "--epochs=3", f"--out={tmp_path}"])
    assert seen == list(runs.table2(2, 3))
    assert "18 of 18" in capsys.readouterr().out
    seen.clear()
    command.main(["--only=figures", "--figure-seeds=1", "--figure-epochs=2"])
    assert seen == list(runs.figures(1, 2))


def test_missing_data_is_one_sentence(tmp_path):
    environment = os.environ | {"SPARSETRAIN_DATA": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.msbp_mnist", f"--out={tmp_path}/out"],
        env=environment | {"TFDS_DATA_DIR": str(tmp_path / "tfds")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "mnist" in done.stderr
