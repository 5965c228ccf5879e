import jax.numpy as jnp
import pytest

from benchmarks import kernels as benchmark
from benchmarks import kernels_case, kernels_selection, timing
from sparsetrain import kernels


def test_quick_run_has_every_implementation_that_runs_here():
    record = benchmark.run(quick=True)
    assert kernels_case.available() == ["xla"]
    assert min(record["ceilings"].values()) > 0
    cases = {}
    for row in record["rows"]:
        assert row["seconds"] > 0
        cases.setdefault((row["operation"], row["case"]), {})[row["name"]] = row
    assert len(cases) == 8
    for rows in cases.values():
        (base,) = {row["baseline"] for row in rows.values()}
        assert rows[base]["times_baseline"] == 1
    names = {name for rows in cases.values() for name in rows}
    assert {"copy", "xla", "dense", "masked", "ours", "lax.top_k of all, scatter"} <= names


def test_one_operation_alone():
    record = benchmark.run(quick=True, only="count_above")
    assert {row["operation"] for row in record["rows"]} == {"count_above, 15 thresholds"}


def test_several_calls_are_waited_for_together_and_told_apart():
    numbers = []
    times = benchmark.timed({"call": numbers.append}, timing.QUICK, 3)
    assert numbers == list(range(len(numbers))) and len(numbers) == 3 * (3 + 2 * (1 + 4))
    assert times["call"].calls == 8


def test_an_implementation_that_computes_something_else_is_not_timed(monkeypatch):
    right = kernels.block_top_k_feedback

    def wrong(g, m, k, *, block, implementation):
        kept, rest = right(g, m, k, block=block)
        return (kept, rest) if implementation == "xla" else (kept, rest + 1)

    monkeypatch.setattr(kernels, "block_top_k_feedback", wrong)
    monkeypatch.setattr(kernels_selection, "available", lambda: ["xla", "tpu"])
    with pytest.raises(ValueError, match="tpu differs from xla in 2048 entries"):
        kernels_selection.check_block_top_k(2048, 1024, 3, jnp.float32)


def test_what_is_further_off_than_rounding_is_refused():
    kernels_case.hold_close("ours", jnp.ones(4, jnp.bfloat16), jnp.full(4, 1.001), 2.0**-8)
    with pytest.raises(ValueError, match=r"ours is 1\.0e\+00 off the reference, over 4e-03"):
        kernels_case.hold_close("ours", jnp.zeros(4), jnp.ones(4), 2.0**-8)
    with pytest.raises(ValueError, match="ours is nan off"):
        kernels_case.hold_close("ours", jnp.array([jnp.nan]), jnp.ones(1), 1.0)
