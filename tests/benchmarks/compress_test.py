import numpy as np
import pytest

from benchmarks import compress, compress_exchange


def test_tensors_of_resnet50():
    shapes = compress_exchange.resnet50_shapes()
    assert len(shapes) == 161
    assert sum(int(np.prod(shape)) for shape in shapes) == 25_557_032


def test_quick_run_has_a_row_for_every_compressor():
    record = compress.run(quick=True, parts=("exchange",))
    names = [*compress_exchange.compressors(0.01)]
    for density in compress.DENSITIES:
        rows = [row for row in record["exchange"]["rows"] if f"{density:g}" in row["group"]]
        assert [row["name"] for row in rows] == [compress_exchange.BASELINE, *names]
        assert all(row["copies"] > 0 for row in rows)
    assert "selection" not in record


def test_one_compressor_beside_the_copy():
    record = compress.run(quick=True, parts=("exchange",), only=["ok_top_k"])
    names = [row["name"] for row in record["exchange"]["rows"]]
    assert names == 2 * [compress_exchange.BASELINE, "ok_top_k"]


def test_a_part_that_does_not_exist(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compress", "--part=wire"])
    with pytest.raises(SystemExit):
        compress.main()
    assert "invalid choice: 'wire'" in capsys.readouterr().err
