import json

import pytest

from benchmarks import masks_compact


@pytest.fixture(scope="module")
def record():
    return masks_compact.run(quick=True)


def test_quick_run_makes_a_record_that_json_takes(record):
    assert record == json.loads(json.dumps(record))
    assert record["quick"] and record["targets"] == []
    for part in record["parts"]:
        for row in part["rows"]:
            assert 0 < row["p10_us"] <= row["median_us"] <= row["p90_us"]


def test_bytes_are_those_of_the_formula(record):
    for part in record["parts"]:
        sizes = part["bytes"]
        assert sizes["held, one dense"] == pytest.approx(0.25 + 0.75 * 0.4 / 3, abs=1e-3)
        assert sizes["held, all sparse"] == pytest.approx(0.4 / 3, abs=1e-3)
        assert sizes["held, masked form"] == pytest.approx(1 + 1 / 12, abs=1e-3)  # bool masks


def test_every_target_names_a_row(record):
    rows = {(row["group"], row["name"]) for part in record["parts"] for row in part["rows"]}
    assert {(target.group, target.name) for target in masks_compact.TARGETS} <= rows
