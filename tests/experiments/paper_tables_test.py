import json

import pytest

from experiments.paper_tables import __main__ as command
from experiments.paper_tables import record, report, runs
from tests.training.tasks import synthetic


def test_the_grid_is_balanced_and_the_rows_of_a_part_differ_in_their_lever_alone():
    grid = list(runs.grid(3))
    rows = sum(len(part.lines) for part in runs.PARTS.values())
    assert len({run.name for run in grid}) == len(grid) == 3 * rows
    for name, part in runs.PARTS.items():
        configs = [runs.Run(name, line.key, 1).config().to_dict() for line in part.lines]
        levers = [
            tuple(str(config.pop(lever)) for lever in ("backward", "compress", "masks"))
            for config in configs
        ]
        for config in configs:
            # A schedule is as long as the stretch that it is for.
            config["optimizer"].pop("boundaries", None)
        assert all(config == configs[0] for config in configs), name
        assert len(set(levers)) == len(levers), name


def test_sparse_is_without_a_memory_and_folds_follow_the_seeds():
    for name, part in runs.PARTS.items():
        for line in part.lines:
            config = runs.Run(name, line.key, 2).config()
            if line.label == "SBP":
                assert config.backward.decay == 0 and config.backward.rule != "dense"
            if line.label.startswith("MSBP"):
                assert config.backward.decay == float(line.label.split()[-1]) > 0
    assert runs.Run("polarity", "polarity_sbp", 2).config().task.fold == 2


def test_a_run_becomes_one_file_and_is_never_repeated(tmp_path):
    def shrink(config):
        small = synthetic.config("tagging")
        config.data, config.model, config.task = small.data, small.model, small.task
        config.backward.density, config.epochs = 0.25, 1

    run = runs.Run("tagging", "pos_msbp", 0)
    assert record.record(run, tmp_path, tmp_path / "scratch", shrink)
    content = json.loads((tmp_path / f"{run.name}.json").read_text())
    assert content["score"] == "accuracy" and 0 <= content["summary"]["test_accuracy"] <= 1
    assert content["summary"]["memory_norm"] > 0 and content["summary"]["kept_fraction"] == 0.25
    assert not list((tmp_path / "scratch").iterdir())
    assert not record.record(run, tmp_path, tmp_path / "scratch", lambda _: pytest.fail("repeats"))
    assert "| MSBP, decay 0.8 | 0.25 |" in report.text(report.load(tmp_path))


def test_tables_compare_seed_by_seed(tmp_path):
    def write(part, row, seed, **summary):
        content = {"part": part, "row": row, "seed": seed}
        content["summary"] = {"steps": 7, "epochs": 2, "train_loss": 0.5, **summary}
        (tmp_path / f"{runs.Run(part, row, seed).name}.json").write_text(json.dumps(content))

    for seed in range(3):
        for line, gain in zip(runs.PARTS["parsing"].lines, (0.0, -0.01, 0.02), strict=True):
            score = 0.8 + gain + seed / 100
            write("parsing", line.key, seed, test_uas=score, validation_uas=0.8, kept_fraction=0.04)
        for line in runs.PARTS["words"].lines[:2]:
            bits = {"dense_bits": 6e9, "bits_sent": 6e9 / (1 if "baseline" in line.key else 600)}
            write("words", line.key, seed, test_perplexity=90, validation_perplexity=95, **bits)
    report.write(tmp_path)
    table = (tmp_path / "tables.md").read_text()
    assert "UAS" in table and "-1.00" in table and "+2.00" in table and "80.00" in table
    assert "| x 600 | 3 | 95.00" in table and "| x 1 |" in table
    assert "BLEU" not in table


def test_missing_data_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="ud-english-ewt"):
        command.main(
            ["--part=parsing", "--seeds=1", f"--out={tmp_path}/o", f"--scratch={tmp_path}/s"]
        )
