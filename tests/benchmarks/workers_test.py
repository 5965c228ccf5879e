import json

import pytest

from benchmarks import workers


@pytest.fixture(scope="module")
def record():
    return workers.run(quick=True)


def test_quick_run_makes_a_record_that_json_takes(record):
    assert record == json.loads(json.dumps(record))
    assert record["quick"] and record["targets"] == []
    for part in record["parts"]:
        assert [row["name"] for row in part["rows"]][:2] == [workers.BATCHED, workers.OURS]
        for row in part["rows"]:
            assert 0 < row["p10_us"] <= row["median_us"] <= row["p90_us"]


def test_every_target_names_a_model():
    assert {target.group for target in workers.TARGETS} == set(workers.MODELS)
