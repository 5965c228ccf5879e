import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import demo, demo_report
from sparsetrain.training import Result

ROOT = Path(__file__).parents[2]


def run(workdir):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.demo",
            f"--workdir={workdir}",
            "--seeds=2",
            "--epochs=2",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("demo")
    return workdir, run(workdir)


def test_the_table_has_every_method_and_column(finished):
    _, output = finished
    lines = output.splitlines()
    (heading,) = [number for number, line in enumerate(lines) if line.startswith("method ")]
    for text in demo_report.HEADINGS:
        assert text in lines[heading]
    rows = lines[heading + 1 : heading + 1 + len(demo.METHODS)]
    for row, method in zip(rows, demo.METHODS, strict=True):
        assert row.startswith(method.name)
        assert " ± " in row and "nan" not in row
    assert "run 10 of 10" in output


def test_the_numbers_are_those_of_the_runs(finished):
    workdir, _ = finished
    table = json.loads((workdir / "results.json").read_text())["table"]
    for method in demo.METHODS:
        summaries = [
            json.loads(path.read_text())
            for path in workdir.glob(f"**/{method.folder}/*/summary.json")
        ]
        assert len(summaries) == 2
        a, b = (summary["test_accuracy"] for summary in summaries)
        assert table[method.name]["test_accuracy"]["mean"] == pytest.approx((a + b) / 2)
        assert table[method.name]["test_accuracy"]["std"] == pytest.approx(
            abs(a - b) / math.sqrt(2)
        )
    assert table["dense"]["kept_fraction"]["mean"] == 1.0
    assert table["MSBP, 3 of 256"]["kept_fraction"]["mean"] == pytest.approx(3 / 256)
    assert table["SBP, 3 of 256"]["memory_norm"]["mean"] == 0.0
    assert table["MSBP, 3 of 256"]["memory_norm"]["mean"] > 0.0
    assert (
        table["dense"]["gradient_angle"]["mean"]
        < 1e-2
        < table["SBP, 3 of 256"]["gradient_angle"]["mean"]
    )


def test_the_report_is_one_file_with_plots(finished):
    page = (finished[0] / "report.html").read_text()
    assert page.count("<figure>") == page.count('role="img"') == 5
    assert not re.search(r"(src|href)=|@import|url\(", page)
    for method in demo.METHODS:
        assert f"<td>{method.name}</td>" in page


def test_started_again_it_reads_what_is_there(finished):
    workdir, output = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.glob("**/checkpoints/*")}
    assert before
    again = run(workdir)
    assert {path: path.stat().st_mtime_ns for path in workdir.glob("**/checkpoints/*")} == before
    table = [line for line in output.splitlines() if " ± " in line]
    assert [line for line in again.splitlines() if " ± " in line] == table


def test_statistics_are_over_seeds():
    runs = [Result({"x": x, "angle": None}, [], None) for x in (1.0, 2.0, 4.0)]
    table = demo.statistics(runs)
    assert table["x"] == {"mean": pytest.approx(7 / 3), "std": pytest.approx(np.sqrt(7 / 3))}
    assert table["angle"] == {"mean": None, "std": None}
    assert demo.statistics(runs[:1])["x"] == {"mean": 1.0, "std": 0.0}
