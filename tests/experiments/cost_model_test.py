import json

import pytest

from experiments.cost_model import __main__ as command
from experiments.cost_model import measure, tables, times, validation
from sparsetrain.runtime.cost_model import NETWORKS, Exchange, predict


def test_the_command_writes_tables_and_plots_and_leaves_the_readme_alone(tmp_path, capsys):
    before = command.README.read_text()
    command.main([f"--out={tmp_path}"])
    assert str(tmp_path) in capsys.readouterr().out
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"tables.md", "all_times.md", "times.png", "crossover.png"}
    assert command.README.read_text() == before
    # What is committed is what the model says today.
    for name in ("tables.md", "all_times.md"):
        assert (tmp_path / name).read_text() == (times.RESULTS / name).read_text()
    assert (tmp_path / "tables.md").read_text().strip() in before


def test_a_winner_beats_the_better_dense_and_a_loser_says_dense():
    free = tables.winners(0.01, times.FREE).splitlines()
    assert free[-1].startswith("| 1,024 | Ok-Topk") and "dense" not in free[-1]
    core = tables.winners(0.01, times.CPU).splitlines()
    assert core[-1].endswith("| dense | dense | dense |")
    # By hand: Ok-Topk against halving and doubling at 1 GbE, W = 1,024, N = 25.6e6.
    dense = 2 * 10 * 50e-6 + 2 * 25.6e6 * 1023 / 1024 * 32 / 1e9
    sparse = (2048 + 20) * 50e-6 + 6 * 0.256e6 * 1023 / 1024 * 32 / 1e9
    assert f"Ok-Topk {dense / sparse:.0f}x" in free[-1]


def test_times_come_from_the_records_of_the_benchmarks():
    found = times.selection()
    assert found["top_k"][0.001] == pytest.approx(0.1436, abs=1e-4)
    encoding = 0.01 * times.ENTRIES * times.code_seconds("encode", 0.01)
    assert found["sbc"][0.01] == pytest.approx(0.3035 + encoding, abs=1e-4)
    assert times.processor(times.CPU, Exchange("ring"), 0.01).selection == 0
    with pytest.raises(ValueError, match=r"run  python -m benchmarks\.wire"):
        times.code_seconds("fold", 0.01)


def test_measured_rows_of_few_workers_predict_those_of_many(tmp_path):
    network, rows = NETWORKS["10 GbE"], []
    for workers in (2, 4):
        for options in ({"method": "ring"}, {"method": "sbc", "value_bits": 1}):
            row = {"workers": workers, "entries": 1e6, "density": 0.01}
            wire = predict(Exchange(**options), network, **row).exchange
            rows.append({**row, "network": "lab", "exchange": options, "seconds": float(wire)})
    rows[-1]["seconds"] *= 2
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    lines = validation.table(validation.read(path)).splitlines()
    assert lines[2].endswith("| +0% | fitted |") or lines[2].endswith("| -0% | fitted |")
    assert lines[5].endswith("| -50% | predicted |")
    assert lines[-1].startswith("lab: latency 25 us, 10 Gbit/s") and "50% at worst" in lines[-1]
    path.write_text(json.dumps([{"network": "lab"}]))
    with pytest.raises(ValueError, match=r"row 0: KeyError\('exchange'\); see .*validation.read"):
        validation.read(path)


def test_adding_up_can_be_measured():
    record = measure.run(quick=True)
    names = {row["name"] for row in record["rows"]}
    assert {"add", "scatter, density 0.01", "merge, density 0.001"} <= names
    assert all(0 < row["seconds"] <= row["median"] for row in record["rows"])
