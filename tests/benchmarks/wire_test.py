import json

import numpy as np
import pytest

from benchmarks import wire
from sparsetrain.wire import compiled


def test_quick_run_makes_a_record_that_json_takes(capsys, monkeypatch):
    monkeypatch.setattr(wire, "SLICE", 100)
    record = wire.run(quick=True)
    assert record == json.loads(json.dumps(record))
    assert record["quick"] and record["targets"] == []
    printed = capsys.readouterr().out
    for row in record["rows"]:
        assert row["name"] in printed
        assert 0 < row["p10_us"] <= row["median_us"] <= row["p90_us"]
        assert row["mb_per_s"] == pytest.approx(4 / row["median_us"])
        assert not row["extrapolated"] or "Python" in row["name"]
    assert "extrapolated from 100 positions" in printed
    for sizes in record["sizes"].values():
        bound = sizes["entropy bound"]["bits"]
        assert sizes["Golomb"]["bits"] == pytest.approx(bound, rel=0.3)  # a handful of positions


def test_every_target_names_a_row_that_will_be_measured():
    if not compiled.is_installed():
        pytest.skip("needs numba")
    names = {candidate.name for candidate in wire.candidates(2000, 0.1)[0]}
    assert {target.name for target in wire.TARGETS} <= names
    assert {target.group for target in wire.TARGETS} == {
        f"density {density:g}" for density in wire.DENSITIES
    }


def test_samples_are_rising_and_as_dense_as_asked_for():
    for positions in wire.samples(1_000_000, 0.01):
        assert positions.dtype == np.int32 and (np.diff(positions) > 0).all()
        assert positions[-1] < 1_000_000
        assert len(positions) == pytest.approx(10_000, rel=0.05)
