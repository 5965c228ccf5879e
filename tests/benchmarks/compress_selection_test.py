import json

import numpy as np
import pytest

from benchmarks import compress_selection


def test_quick_run_makes_a_record_that_json_takes(capsys):
    record = compress_selection.run(quick=True, with_torch=False)
    assert record == json.loads(json.dumps(record))
    assert record["quick"] and len(record["rows"]) >= 7
    printed = capsys.readouterr().out
    for case in compress_selection.cases(quick=True):
        assert case.title in printed
    for row in record["rows"]:
        assert 0 < row["p10_us"] <= row["median_us"] <= row["p90_us"]
        assert row["copies"] == 1 or row["name"] != compress_selection.COPY
    for target in record["targets"]:
        assert target["reached"] == (target["copies"] <= target["most"])


def test_a_wrong_selection_is_not_timed():
    case = compress_selection.Case("smooth", 100, 0.1, False)
    values = compress_selection.inputs("smooth", 100)[0]
    wrong = {
        compress_selection.THRESHOLD: lambda v: np.float32(0),
        compress_selection.MASK: lambda v: np.ones(100, bool),
        compress_selection.ENTRIES: lambda v: (v[:10], np.arange(10)),
    }
    with pytest.raises(RuntimeError, match="kth_magnitude, top_k_mask_flat, top_k_entries"):
        compress_selection.require_exact(case, values, values, wrong)


@pytest.mark.parametrize("kind", ["smooth", "ascending", "tied", "mostly zero"])
def test_inputs_are_what_they_are_called(kind):
    first, second = compress_selection.inputs(kind, 10_000)
    assert first.dtype == np.float32 and not np.array_equal(first, second)
    properties = {
        "smooth": len(np.unique(first)) > 9_900,
        "ascending": bool((np.diff(first) >= 0).all()),
        "tied": len(np.unique(first)) < 5_000,
        "mostly zero": (first == 0).mean() > 0.99,
    }
    assert properties[kind]
