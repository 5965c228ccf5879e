import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gap_fashion_mnist import __main__ as command
from experiments.gap_fashion_mnist import methods, record, report, runs
from sparsetrain import data, masks


def few_images(count=300):
    generator = np.random.default_rng(0)
    split = data.Split(
        generator.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8),
        np.arange(count, dtype=np.int32) % 10,
    )
    return data.Dataset(split, split, split)


def test_the_grid_names_every_run_once_and_has_every_method_at_every_sparsity():
    grid = list(runs.grid(5))
    assert len({run.name for run in grid}) == len(grid)
    equal = {(run.method, run.sparsity) for run in grid if run.part == "equal" and run.sparsity}
    assert equal == {(m, s) for m in runs.METHODS[1:] for s in runs.SPARSITIES}
    assert {run.seed for run in grid if run.part == "equal"} == set(range(5))
    assert {run.kappa for run in grid if run.part == "ablations"} >= {1, 2, 4}


@pytest.mark.parametrize("network", methods.NETWORKS)
def test_every_masked_leaf_is_in_one_partition_and_the_last_layer_stays_dense(network):
    run = runs.Run("C-GaP", 0.9, 0, network=network, kappa=len(methods.LAYERS[network]))
    params = jax.eval_shape(
        lambda: methods.initial(run, jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    )
    owners = methods.partitions(run).assign(params)
    assert list(owners) == [f"{layer}/kernel" for layer in methods.LAYERS[network]]
    assert len(set(owners.values())) == len(owners)


@pytest.mark.parametrize("method", ["C-GaP", "P-GaP", "SNIP"])
def test_a_run_ends_with_its_sparsity_and_is_not_repeated(method, tmp_path):
    epochs = 8
    run = runs.Run(method, 0.9, 0, epochs=epochs)
    assert record.record(run, tmp_path, few_images)
    assert not record.record(run, tmp_path, few_images)
    content = json.loads((tmp_path / f"{run.name}.json").read_text())
    assert content["final_density"] == pytest.approx(0.1, abs=1e-3)
    assert content["curves"]["epoch"][-1] == epochs
    assert content["best_epoch"] > (4 if method == "C-GaP" else 0)
    if method == "C-GaP":  # One layer is dense in each of the first four epochs but at their ends.
        assert max(content["curves"]["density"][:3]) > 0.2
    if method == "P-GaP":  # Two workers at a time, then one.
        assert content["curves"]["epoch"] == [2, 4, 5, 6, 7, 8]


def test_runs_of_a_seed_begin_with_the_same_weights():
    first, second = (
        methods.initial(runs.Run(m, 0.9, 3), jax.random.key(3), jnp.ones((1, 28, 28, 1)))
        for m in ("RigL", "C-GaP")
    )
    assert all(
        bool(jnp.all(a == b))
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )
    tx = methods.build(runs.Run("RigL", 0.9, 0), 3, jax.random.key(0))
    assert "output/kernel" not in masks.find(tx.init(first)).masks


def fake(folder, run, accuracy):
    fields = {f: getattr(run, f) for f in runs.Run.__dataclass_fields__}
    content = {
        **fields,
        "final_density": 1 - run.sparsity,
        "test_accuracy": accuracy,
        "test_accuracy_at_best": accuracy,
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_tables_name_the_best_rival_and_pair_by_seed(tmp_path):
    for seed in range(3):
        fake(tmp_path, runs.Run("dense", 0, seed), 0.9 + 0.01 * seed)
        fake(tmp_path, runs.Run("GMP", 0.9, seed), 0.89 + 0.01 * seed)
        fake(tmp_path, runs.Run("RigL", 0.9, seed), 0.8 + 0.01 * seed)
        fake(tmp_path, runs.Run("C-GaP", 0.9, seed), 0.88 + 0.01 * seed)
    report.write(tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "| 90% | GMP | 0.100 | 8 | 3 | 90.00 ± 1.00 |" in text
    assert "-1.00 [-1.00, -1.00] | +1.00 [+1.00, +1.00] |" in text
    assert "90%: the best rival is GMP; C-GaP minus it: -1.00 [-1.00, -1.00] points." in text
    assert (tmp_path / "accuracy_over_sparsity.png").stat().st_size > 1000


def test_no_results_and_no_data_are_said_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds no results"):
        report.load(tmp_path)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match="fashion"):
        command.main([f"--out={tmp_path}", "--seeds=1", "--part=equal"])


def test_the_tables_of_the_readme_are_those_of_the_results():
    if not report.RESULTS.exists():
        pytest.skip("no results yet")
    assert report.text(report.load(report.RESULTS)) in report.README.read_text()
