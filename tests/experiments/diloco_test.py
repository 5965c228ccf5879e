import functools
import json

import numpy as np
import pytest

from experiments.diloco import __main__ as command
from experiments.diloco import methods, record, report, runs
from sparsetrain.data import text
from sparsetrain.models import DecoderLM

STEPS, EVERY = 4, 2


def short_text():
    generator = np.random.default_rng(0)
    return text.encode("".join(generator.choice(list("abc "), 6000)))


def test_the_grid_names_every_run_once_and_knows_every_method():
    grid = list(runs.grid(2))
    assert len({run.name for run in grid}) == len(grid)
    assert len({run.label for run in grid}) == len(grid) // 2
    for run in grid:
        methods.optimizer(run)
        assert (run.every == 1) == (run.method == "every step")
    with pytest.raises(ValueError, match="method='gossip' is unknown"):
        methods.optimizer(runs.Run("gossip", 0))


@pytest.mark.parametrize(("method", "density"), [("every step", 1.0), ("SBC", 0.05)])
def test_a_run_learns_counts_its_bits_and_is_not_repeated(method, density, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "CONTEXT", 8)
    tiny = functools.partial(DecoderLM, width=8, feed=8, heads=2, layers=1)
    monkeypatch.setattr(record, "DecoderLM", tiny)
    every = 1 if method == "every step" else EVERY
    run = runs.Run(method, 0, density, steps=STEPS, every=every)
    assert record.record(run, tmp_path, short_text)
    assert not record.record(run, tmp_path, short_text)
    content = json.loads((tmp_path / f"{run.name}.json").read_text())
    assert content["curves"]["step"] == list(range(every, STEPS + 1, every))
    assert content["curves"]["validation_loss"][-1] < content["curves"]["validation_loss"][0]
    whole = 32 * content["parameters"] * STEPS
    assert content["dense_bits_per_worker"] == whole
    if method == "every step":
        assert content["bits_per_worker"] == whole
    else:
        assert content["rounds"] == STEPS // EVERY
        assert 0 < content["bits_per_worker"] < whole / 20


def test_steps_end_with_an_exchange():
    with pytest.raises(ValueError, match="steps=5: make it a multiple of every=2"):
        record.train(runs.Run("dense", 0, steps=5, every=2), short_text())


def fake(folder, run, loss, bits):
    fields = {field: getattr(run, field) for field in runs.Run.__dataclass_fields__}
    content = {
        **fields,
        "parameters": 1000,
        "workers": 4,
        "rounds": run.steps // run.every,
        "validation_loss": loss,
        "bits_per_worker": bits,
        "dense_bits_per_worker": 32_000 * run.steps,
        "curves": {"step": [1, 2], "bits": [bits / 2, bits], "validation_loss": [3.0, loss]},
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_the_table_is_against_diloco_at_equal_seeds(tmp_path):
    for seed in range(2):
        fake(tmp_path, runs.Run("dense", seed), 2.0 + 0.1 * seed, 32_000 * 20)
        fake(tmp_path, runs.Run("SBC", seed, 0.01), 2.5 + 0.1 * seed, 8_000)
        fake(tmp_path, runs.Run("SBC", seed, 0.01, steps=20), 9.0, 1)  # Another length.
    report.write(tmp_path)
    found = (tmp_path / "tables.md").read_text()
    ratio = runs.STEPS * 32_000 // 8_000
    assert "| DiLoCo + SBC 1% | 2 | 2.550 ± 0.071 | +0.50 [+0.50, +0.50] | 0.01 | " in found
    assert f"| {ratio:,} |" in found
    assert (tmp_path / "loss_over_bits.png").stat().st_size > 1000


def test_no_results_and_no_data_are_said_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds no results"):
        report.load(tmp_path)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="tinyshakespeare"):
        command.main([f"--out={tmp_path}", "--seeds=1"])


def test_the_table_of_the_readme_is_that_of_the_results():
    if not report.RESULTS.exists():
        pytest.skip("no results yet")
    assert report.text(report.load(report.RESULTS)) in report.README.read_text()
