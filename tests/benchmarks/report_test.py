import json

import pytest

from benchmarks import report
from benchmarks.candidate import Candidate
from benchmarks.timing import Timing


@pytest.fixture
def records():
    candidates = [
        Candidate("dense a", print, "layer", baseline="fresh"),
        Candidate("dense b", print, "layer", baseline="fresh"),
        Candidate("dense in place", print, "layer", baseline="in place"),
        Candidate("other family", print, "step", baseline="fresh"),
        Candidate("quick rule", print, "layer", against=("fresh", "in place")),
        Candidate("slow rule", print, "layer", against=("fresh", "in place")),
    ]
    medians = [40e-6, 30e-6, 20e-6, 1e-6, 10e-6, 25e-6]
    times = {c.name: Timing(m, m / 2, m * 2, 7) for c, m in zip(candidates, medians, strict=True)}
    return report.rows("case", candidates, times)


def test_the_fastest_baseline_of_the_same_family_counts(records):
    by_name = {record["name"]: record for record in records}
    assert by_name["quick rule"]["speedup"] == pytest.approx({"fresh": 3.0, "in place": 2.0})
    assert by_name["slow rule"]["speedup"] == pytest.approx({"fresh": 1.2, "in place": 0.8})
    assert by_name["quick rule"]["median_us"] == pytest.approx(10.0)
    assert json.loads(json.dumps(records)) == records


def test_a_slow_row_says_so(records):
    lines = report.table(records).splitlines()
    assert [line.endswith("SLOWER THAN DENSE") for line in lines] == [False] * 6 + [True]
    assert lines[5].split()[-2:] == ["3.00", "2.00"]


def test_targets_pass_and_miss_and_wait_for_their_case(records):
    targets = (
        report.Target("case", "quick rule", "fresh", 3, 4),
        report.Target("case", "quick rule", "in place", 2.5, 2.5),
        report.Target("case of another day", "quick rule", "fresh", 3, 4),
    )
    results = report.check(targets, records)
    assert [result["reached"] for result in results] == [True, False]
    first, second = report.verdicts(results).splitlines()
    assert first.startswith("pass") and "3.00x  of 3x, aim 4x" in first
    assert second.startswith("MISS") and "aim" not in second
