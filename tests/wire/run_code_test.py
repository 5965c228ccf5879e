"""Lanes find the same runs as one walk, whatever the stream and however they are cut."""

import numpy as np
import pytest

from sparsetrain.wire import WireError, run_code

TAILS = {
    "none": lambda runs, ends, fields: 0,
    "fixed": lambda runs, ends, fields: 6,
    "by run": lambda runs, ends, fields: runs + (runs > 0),
    "by field": lambda runs, ends, fields: 2 + 3 * (fields(ends + 1, 2) >= 2),
}


@pytest.mark.parametrize("tails", TAILS.values(), ids=TAILS.keys())
@pytest.mark.parametrize("stream", ["half", "few ones", "many ones", "periodic", "zeros inside"])
def test_lanes_equal_one_walk(
    tails: run_code.Tails, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    share = {"few ones": 0.03, "many ones": 0.9}.get(stream, 0.5)
    flags = generator.random(160_000) < share
    if stream == "periodic":
        flags = np.tile(flags[:23], 160_000 // 23)
    if stream == "zeros inside":
        flags[40_000:90_000] = False
    buffer = np.packbits(flags)
    one = run_code._OneWalk(buffer, tails)
    begins, ends, _ = one.walk_to(0, 8 * buffer.size, 8 * buffer.size)
    monkeypatch.setattr(run_code, "_FEW", 0)
    for count in (1, 100, len(ends) // 2, len(ends)):
        found = run_code.find_runs(buffer, count, tails)
        np.testing.assert_array_equal(found[0], begins[:count])
        np.testing.assert_array_equal(found[1], ends[:count])
    with pytest.raises(WireError, match="ends too early"):
        run_code.find_runs(buffer, len(ends) + 1, tails)


def test_no_codes() -> None:
    begins, ends = run_code.find_runs(np.zeros(0, np.uint8), 0, TAILS["none"])
    assert begins.size == ends.size == 0
