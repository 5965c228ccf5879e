import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sbc_charlstm_shakespeare import __main__ as command
from experiments.sbc_charlstm_shakespeare import record, report, runs
from experiments.sbc_lenet_mnist import federated
from experiments.sbc_lenet_mnist.methods import METHODS, Method
from sparsetrain.data import text
from sparsetrain.models import CharLSTM

CORPUS = text.encode("to be, or not to be: that is the question. " * 40)


def small(kind="sbc", every=2, density=0.1, iterations=4):
    return runs.Run(kind, every, density, 0, iterations, hidden=6, rows=2, length=5, clients=2)


def test_the_learning_rate_falls_at_the_papers_points():
    rate = runs.Run("dense", 1, 1.0, 0, iterations=16_000).learning_rate()
    steps = (0, 4_999, 5_001, 8_001, 10_001, 12_001, 14_001)
    expected = [1.0, 1.0, 0.8, 0.8**2, 0.8**3, 0.8**4, 0.8**5]
    assert [float(rate(step)) for step in steps] == pytest.approx(expected)
    short = runs.Run("dense", 1, 1.0, 0, iterations=160).learning_rate()
    assert float(short(51)) == pytest.approx(0.8)


def test_the_grid_spans_both_sparsities_and_shares_runs_with_the_table():
    grid = list(runs.grid(1, 100, 8))
    assert len({run.name for run in grid}) == len(grid) == 12
    assert {(run.every, run.density) for run in grid} == {
        (every, density) for every in (1, 10, 100) for density in (1.0, 0.1, 0.01, 0.001)
    }
    table = set(runs.table(1, 100, 8))
    assert {run.kind for run in table - set(grid)} == {"dropping"}


def test_clients_read_their_own_part_and_start_again_with_a_fresh_state():
    run = small()
    model = CharLSTM(len(CORPUS.symbols), hidden=run.hidden)
    job = record.shakespeare(model, CORPUS.train, run)
    windows = job.data.shape[1]
    own = len(CORPUS.train) // 2
    for client in (0, 1):
        window, continues = job.batch(job.data, client, jnp.int32(0))
        assert not continues
        start = client * own
        np.testing.assert_array_equal(window[0], CORPUS.train[start : start + 6])
    again, continues = job.batch(job.data, 1, jnp.int32(windows))
    assert not continues
    np.testing.assert_array_equal(again, window)
    assert job.batch(job.data, 1, jnp.int32(1))[1]
    params = model.init(jax.random.key(0), window[:, :-1], job.carry)["params"]
    stale = jax.tree.map(lambda state: state + 1.0, job.carry)
    fresh = job.loss(params, (window, jnp.bool_(False)), stale)[0]
    assert float(fresh) == float(job.loss(params, (window, jnp.bool_(False)), job.carry)[0])
    assert float(fresh) != float(job.loss(params, (window, jnp.bool_(True)), stale)[0])


def test_the_state_is_carried_from_window_to_window():
    run = small("dense", 1, 1.0)
    model = CharLSTM(len(CORPUS.symbols), hidden=run.hidden)
    job = record.shakespeare(model, CORPUS.train, run)
    tokens = jnp.zeros([run.rows, run.length], jnp.int32)
    params = model.init(jax.random.key(0), tokens, job.carry)["params"]
    state = federated.create(params, run.optimizer(), run.clients, job)
    after = federated.trainer(job, run.optimizer())(state, 1)
    window = job.data[1, 0]
    expected = record.window_loss(model, params, window, job.carry)[1]
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours[1], theirs, atol=1e-6),
        after.carry,
        expected,
    )


def test_a_run_becomes_one_file_and_is_never_repeated(tmp_path):
    run = small()
    assert record.record(run, tmp_path, lambda: CORPUS)
    path = tmp_path / f"{run.name}.json"
    before = path.read_bytes()
    assert not record.record(run, tmp_path, lambda: CORPUS)
    assert path.read_bytes() == before
    content = json.loads(before)
    assert content["curves"]["iteration"][-1] == 4
    assert 1 < content["summary"]["test_perplexity"] < 2 * len(CORPUS.symbols)
    assert content["summary"]["bits"] > 0 == content["summary"]["nonfinite"]
    assert content["tensors"]["lstm_0/recurrent"]["sent"] <= 2 * round(0.1 * 6 * 24)


def fake(folder, run, perplexity, ratio):
    content = {
        **{field: getattr(run, field) for field in ("kind", "every", "density", "seed")},
        **{field: getattr(run, field) for field in ("iterations", "hidden", "clients")},
        "summary": {
            "test_perplexity": perplexity,
            "bits": 1e6 / ratio,
            "compression_ratio": ratio,
            "wire_ratio": ratio / 2,
        },
        "curves": {
            "iteration": [1, run.iterations],
            "bits": [0, 1e6 / ratio],
            "test_perplexity": [20.0, perplexity],
        },
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_the_report_is_made_from_files_alone(tmp_path):
    for run in [*runs.table(2, 100, 8), *runs.grid(1, 100, 8)]:
        fake(tmp_path, run, 5.0 + run.seed, run.how.factor() / 2)
    fake(tmp_path, runs.Run("dense", 1, 1.0, 0, 50, 8), 99.0, 1.0)  # Shorter: left out.
    report.write(tmp_path)
    written = (tmp_path / "tables.md").read_text()
    (line,) = (line for line in written.splitlines() if line.startswith("| SBC(1)"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:5] == ["2", f"5.50 ± {math.sqrt(0.5):.2f}"]
    assert cells[6:] == ["x1,392", "x696", "x2,784", "50%"]
    (line,) = (line for line in written.splitlines() if line.startswith("| 100 |"))
    assert "5.00 (x3,364)" in line  # density .1, one seed
    assert "99" not in written
    for name in ("perplexity_iterations", "perplexity_bits"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_the_tables_of_the_committed_results():
    if not list(report.RESULTS.glob("*_seed*.json")):
        assert "No runs yet" in report.README.read_text()
        return
    wanted = report.text(report.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_the_command_line_runs_each_cell_once(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main([f"--out={tmp_path}", "--iterations=20"])
    assert len(seen) == len(set(seen)) == 13
    assert METHODS["sbc_3"] in {run.how for run in seen}
    assert Method("fedavg", 10) in {run.how for run in seen}
    assert "13 of 13" in capsys.readouterr().out
