import doctest
import importlib
import json
import pathlib

import pytest

from benchmarks import backward, backward_layer, backward_step, eager_torch, machine


def test_quick_run_makes_a_record_that_json_takes(capsys):
    record = backward.run(quick=True, only="layer", wanted="random_k", with_torch=False)
    assert record == json.loads(json.dumps(record))
    assert record["quick"] and record["targets"] == []
    names = [row["name"] for row in record["rows"]]
    assert "random_k, row-sparse out_in" in names
    assert "nn.Dense, plain, dW in place" in names and "memorized" not in " ".join(names)
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    for row in record["rows"]:
        assert 0 < row["p10_us"] <= row["median_us"] <= row["p90_us"]
        assert row["slower_than_dense"] == any(x < 1 for x in row["speedup"].values())


def test_a_filter_that_finds_nothing_lists_the_cases():
    with pytest.raises(ValueError, match="finds no case; the cases are: layer 500->500"):
        backward.run(only="layer 5 ")


def test_every_target_names_a_row_that_will_be_measured():
    """Names only: nothing is compiled."""
    rows = set()
    for case in backward_layer.CASES:
        rows |= {(case.title, name) for name, *_ in backward_layer._table(case)}
        rows |= {
            (case.title, f"nn.Dense, unified + memory, row-sparse {layout}")
            for layout in ("in_out", "out_in")
        }
    for case in backward_step.CASES:
        for name, *_ in backward_step._table(case):
            rows |= {(case.title, f"{name} ({form})") for form in ("one call", "scan")}
    assert {(target.group, target.name) for target in backward.TARGETS} <= rows
    assert all(target.least <= target.aim for target in backward.TARGETS)


def test_cores():
    with pytest.raises(ValueError, match="cores=-1"):
        machine.use_cores(-1)
    assert machine.cores_in_use() >= 1


def test_torch_computes_the_same_products():
    pytest.importorskip("torch")
    torch = eager_torch.load(1)
    case = backward_layer.LayerCase(4, 24, 32, 2)
    fresh, in_place, unified = eager_torch.layer_candidates(torch, case)
    for first, second in zip(fresh.run(1), in_place.run(1), strict=True):
        torch.testing.assert_close(first, second)
    dkernel, dx = fresh.run(0)
    values, columns, _ = unified.run(0)
    torch.testing.assert_close(values, dkernel[columns])
    assert dx.shape == (4, 24)


@pytest.mark.parametrize(
    "module", sorted(p.stem for p in pathlib.Path(backward.__file__).parent.glob("*.py"))
)
def test_doctests(module):
    name = "benchmarks" if module == "__init__" else f"benchmarks.{module}"
    assert doctest.testmod(importlib.import_module(name)).failed == 0
