import jax.numpy as jnp
import pytest

from benchmarks import kernels as benchmark
from sparsetrain import kernels


def test_quick_run_has_every_implementation_that_runs_here():
    record = benchmark.run(quick=True)
    assert benchmark.available() == ["xla"]
    for case in ("small, float32", "small, bfloat16"):
        rows = {row["name"]: row for row in record["rows"] if row["case"] == case}
        assert {"copy", "xla", "lax.top_k of all, scatter"} <= rows.keys()
        assert rows["copy"]["share_of_copy"] == 1
        assert all(row["seconds"] > 0 for row in rows.values())


def test_an_implementation_that_computes_something_else_is_not_timed(monkeypatch):
    right = kernels.block_top_k_feedback

    def wrong(g, m, k, *, block, implementation):
        kept, rest = right(g, m, k, block=block)
        return (kept, rest) if implementation == "xla" else (kept, rest + 1)

    monkeypatch.setattr(kernels, "block_top_k_feedback", wrong)
    monkeypatch.setattr(benchmark, "available", lambda: ["xla", "tpu"])
    with pytest.raises(ValueError, match="tpu differs from xla in 2048 entries"):
        benchmark.agreement(2048, 1024, 3, jnp.float32)
