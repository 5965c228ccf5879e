import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.msbp_gains import __main__ as command
from experiments.msbp_gains import (
    comparisons,
    plots,
    report,
    results,
    rules,
    runs,
    tables,
    training,
)
from experiments.msbp_gains.runs import DENSE, Block, Run, msbp
from sparsetrain import backward, selection

TINY = runs.Settings(epochs=1, images=64, hidden=(12,))


@pytest.fixture(scope="module")
def splits():
    """Real digits at half the resolution: 4 x 4 pixels."""
    whole = training.load("digits", validation=60)
    return training.Splits(*(training.Images(*(part[:100] for part in split)) for split in whole))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(runs.SETUPS, "tiny", TINY)
    training.lanes_epoch.cache_clear()


def sides(family):
    return [side for each in family for side in (each.ours, each.theirs)]


def test_every_comparison_has_its_runs_in_the_grid():
    rates = {}

    def tuned(setup, method):
        # Every tuned rate differs, so that a run is found by its own only.
        return rates.setdefault((setup, method), 2.0 + len(rates))

    grid = [run for block in runs.BLOCKS for run in block.evaluation(tuned)]
    assert len({run.name for run in grid}) == len(grid)
    tuning = {(r.setup, r.method) for block in runs.BLOCKS for r in block.tuning()}
    assert rates.keys() == tuning  # Nothing is tuned in vain, and nothing untuned is asked for.
    there = {(run.setup, run.method, run.rates[0]) for run in grid}
    for side in sides(comparisons.GAINS + comparisons.CAUSES + comparisons.EXPLORED):
        for setup in comparisons.REGULARISED if side.setup == "regularised" else (side.setup,):
            of = {"a": None, "b": (setup, side.method), "c": (setup, DENSE)}
            of["m"] = ("main", side.method)
            rate = rates[of[side.at]] if of[side.at] else runs.PAPER_RATE
            assert (setup, side.method, rate) in there, side
    assert not set(runs.SEEDS) & set(runs.TUNING_SEEDS)
    assert len(comparisons.GAINS) == 24


def test_a_lane_of_many_is_the_run_alone(splits, tiny):
    run = Run("evaluation", "tiny", msbp(0.25), (0.001, 0.02), (0, 1))
    seeds = [training.start(run, seed, splits) for seed in run.seeds]
    lanes = jax.tree.map(lambda *x: jnp.stack(x * 2), *seeds)
    rates = jnp.array([0.001, 0.001, 0.02, 0.02])
    together = training.lanes_epoch(run.static)(lanes, rates, jnp.asarray(0), splits)
    alone = training.epoch(run, seeds[1], rates[3], jnp.asarray(0), splits)
    assert jax.tree.structure(alone) == jax.tree.structure(together)
    for one, many in zip(
        jax.tree.leaves((alone.variables, alone.best)),
        jax.tree.leaves((together.variables, together.best)),
        strict=True,
    ):
        np.testing.assert_allclose(many[3], one, rtol=2e-4, atol=2e-6)
    # And the lanes are different runs.
    kernel = together.variables["params"]["output"]["kernel"]
    assert len({float(jnp.sum(jnp.abs(lane))) for lane in kernel}) == 4


def test_methods_of_a_seed_start_alike_and_seeds_do_not(splits, tiny):
    first, second = (
        training.start(Run("evaluation", "tiny", m, (0.1,), (0,)), 0, splits)
        for m in (DENSE, msbp(0.25))
    )
    other = training.start(Run("evaluation", "tiny", DENSE, (0.1,), (0,)), 1, splits)
    for name in ("kernel", "bias"):
        a, b = (lane.variables["params"]["hidden_0"][name] for lane in (first, second))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.subset, second.subset)
    assert len(np.unique(first.subset)) == TINY.images
    assert (first.subset != other.subset).any()
    assert not jax.tree.leaves(second.variables["memory"])[0].any()


def test_the_uniform_initialisation_has_the_bounds_of_meprops_code():
    params = training.initial((400,), "uniform", jax.random.key(0), jnp.ones((1, 4, 4, 1)))[
        "params"
    ]
    for layer, outputs in (("hidden_0", 400), ("output", 10)):
        for leaf in params[layer].values():
            bound = outputs**-0.5
            assert 0.5 * bound < float(jnp.abs(leaf).max()) <= bound
    assert float(params["hidden_0"]["kernel"].mean()) == pytest.approx(0, abs=0.003)


def batch(rows=4, outputs=10, shut=0.4):
    draws = np.random.default_rng(0)
    cotangent = draws.normal(size=(rows, outputs)) * (draws.random((rows, outputs)) > shut)
    return jnp.asarray(cotangent, jnp.float32), jnp.asarray(draws.normal(size=outputs), jnp.float32)


@pytest.mark.parametrize("kind", ["shuffled", "flipped", "gated", "random"])
def test_controls_of_the_memory_keep_its_books(kind):
    cotangent, memory = batch()
    control = rules.rule(kind, 0.3, 0.5)
    # With an empty memory all but the random one select as MSBP does.
    empty = control.select(cotangent, jnp.zeros(10))
    usual = backward.memorized_top_k(0.3, 0.5).select(cotangent, jnp.zeros(10))
    if kind != "random":
        np.testing.assert_array_equal(empty.to_dense(10), usual.to_dense(10))
        np.testing.assert_allclose(empty.increment, usual.increment, atol=1e-6)
    found = control.select(cotangent, memory)
    assert (found.kept.sum(axis=1) == 3).all()
    given = found.values.sum(axis=0) + (found.increment + memory) / 0.5 - cotangent.sum(axis=0)
    if kind == "random":
        np.testing.assert_allclose(given, memory, atol=1e-5)
    if kind == "shuffled":
        np.testing.assert_allclose(np.sort(given), np.sort(memory), atol=1e-5)
        assert not np.allclose(given, memory)
    if kind == "flipped":
        np.testing.assert_allclose(np.abs(given), np.abs(memory), atol=1e-5)
        assert not np.allclose(given, memory)
    if kind == "gated":
        assert not (found.values * (cotangent == 0)).any()
        np.testing.assert_allclose(given, memory * (cotangent != 0).mean(axis=0), atol=1e-5)


def test_noise_is_as_large_as_what_top_k_drops_and_right_on_average():
    cotangent, _ = batch()
    kept = selection.top_k_mask(cotangent, 3)
    control = rules.rule("noise", 0.3, 0.0)
    assert control.init((10,)) is None
    error = control.select(cotangent, None).values - cotangent
    np.testing.assert_allclose(jnp.abs(error), jnp.where(kept, 0, jnp.abs(cotangent)), atol=1e-6)
    # Scaling the batch a little draws anew.
    scales = 1 + 1e-3 * jnp.arange(400)[:, None, None]
    draws = jax.vmap(lambda g: control.select(g, None).values)(scales * cotangent[None]) / scales
    np.testing.assert_allclose(draws.mean(axis=0), cotangent, atol=0.35)
    assert float(jnp.abs(draws.mean(axis=0) - cotangent).mean()) < 0.05


def test_controls_refuse_what_they_are_not_made_for():
    with pytest.raises(ValueError, match="kind='nothing'"):
        rules.rule("nothing", 0.5, 0.8)
    cotangent, memory = batch()
    with pytest.raises(ValueError, match="rows=8"):
        rules.rule("gated", 0.5, 0.8).select(cotangent, memory, rows=8)


def test_the_grid_from_end_to_end(splits, tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(runs.SETUPS, "main", TINY)
    monkeypatch.setattr(runs, "TUNING_SEEDS", (1000,))
    monkeypatch.setattr(runs, "SEEDS", (0, 1, 2))
    monkeypatch.setattr(runs, "BLOCKS", (Block("main", (DENSE,), "ab"),))
    monkeypatch.setattr(training, "load", lambda: splits)
    command.main([f"--out={tmp_path}"])
    written = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    tuned = [json.loads(text) for name, text in written.items() if name.startswith("tuning")]
    assert len(tuned) == 1
    assert all("test" not in content for content in tuned)  # Tuning never sees them.
    evaluated = [json.loads(text) for name, text in written.items() if name.startswith("eval")]
    assert {content["rates"][0] for content in evaluated} >= {runs.PAPER_RATE}
    assert all(np.shape(content["test"]) == (1, 3) for content in evaluated)
    assert "| main | dense |" in (tmp_path / "tables.md").read_text()
    # Started again it does nothing anew.
    monkeypatch.setattr(training, "train", None)
    command.main([f"--out={tmp_path}"])
    assert {path.name: path.read_text() for path in tmp_path.glob("*.json")} == written


def fake(folder, setup, method, rate, accuracies):
    run = Run("evaluation", setup, method, (rate,), tuple(range(len(accuracies))))
    table = [list(accuracies)]
    content = dataclasses.asdict(run) | {"validation": table, "test": table, "test_at_end": table}
    content["curve"] = {"1": table, "2": table}
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def fake_tuning(folder, setup, method, means):
    (run,) = Block(setup, (method,)).tuning()
    content = dataclasses.asdict(run) | {"validation": [[x, x, x] for x in means]}
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_tables_pair_by_seed_and_take_each_at_its_rate(tmp_path):
    base = np.array([0.90, 0.92, 0.94, 0.91])
    dense, sparse = [0.1, 0.2, 0.9, 0.3, 0.2, 0.1, 0.1], [0.1, 0.2, 0.3, 0.3, 0.9, 0.1, 0.1]
    for setup in comparisons.REGULARISED:
        best = 0.95 if setup == "dropout .3" else 0.9
        fake_tuning(tmp_path, setup, DENSE, [best if x == 0.9 else x for x in dense])
        fake(tmp_path, setup, DENSE, 0.002, base + 0.002 * (setup == "dropout .3"))
    fake_tuning(tmp_path, "main", msbp(0.04), sparse)
    fake(tmp_path, "main", msbp(0.04), 0.008, base + 0.01)
    fake(tmp_path, "main", msbp(0.04), 0.002, base - 0.01)
    fake(tmp_path, "main", DENSE, 0.001, base - 0.02)
    fake(tmp_path, "main", msbp(0.04), 0.001, base - [0.02, 0.021, 0.019, 0.018])
    report.write(tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "| b: its own tuned | 0.04 | dense | 0.008 / 0.002 | 92.75 ± 1.71 |" in text
    assert "| c: dense's tuned | 0.04 | dense | 0.002 / 0.002 |" in text
    found = results.findings(results.load(tmp_path), comparisons.GAINS)
    assert [f.interval.mean for f in found] == pytest.approx([0.05, 1.0, -1.0])
    # Three tests are there, and three are corrected for.
    assert found[0].holm.t == pytest.approx(found[0].p.t)
    assert found[1].holm.wilcoxon == pytest.approx(min(1, 3 * found[1].p.wilcoxon))
    assert "dense, dropout .3, the best regularised at 0.002 | dense at 0.002 |" in text
    assert "+0.20 [+0.20, +0.20]" in text
    for name in ("gain_over_density", "validation_over_rate", "accuracy_by_epoch"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_no_results_are_said_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        results.load(tmp_path)


def test_the_tables_of_the_readme_are_those_of_the_results():
    assert tables.text(results.load(report.RESULTS)) in report.README.read_text()
    assert plots.DENSITIES == runs.DENSITIES
