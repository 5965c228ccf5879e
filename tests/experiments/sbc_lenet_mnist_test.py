import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.sbc_lenet_mnist import __main__ as command
from experiments.sbc_lenet_mnist import (
    batch_last,
    federated,
    record,
    report,
    results,
    runs,
    shared,
    tables,
    tally,
)
from experiments.sbc_lenet_mnist.methods import METHODS, Method, mean_position_bits
from sparsetrain import compress, data
from sparsetrain.models import LeNet5

CLIENTS, ENTRIES = 3, 40


def test_products_with_the_batch_last_are_lenet5():
    keys = jax.random.split(jax.random.key(0), 3)
    pixels = jax.random.randint(keys[0], (6, 28, 28, 1), 0, 256).astype(jnp.uint8)
    pixels = pixels.at[:, :9].set(0)  # Flat background: equal maxima in the pools.
    labels = jnp.arange(6)
    params = LeNet5().init(keys[1], jnp.zeros([1, 28, 28, 1]))["params"]
    params = jax.tree.map(lambda x: x + 0.01 * jax.random.normal(keys[2], x.shape), params)

    def plain(params):
        logits = LeNet5().apply({"params": params}, pixels / 255.0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    (loss, logits), gradient = jax.jit(jax.value_and_grad(plain, has_aux=True))(params)
    found = jax.jit(batch_last.logits)(params, pixels).T
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    ours, found = jax.jit(jax.value_and_grad(batch_last.loss))(params, (pixels, labels))
    assert float(ours) == pytest.approx(float(loss), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max())),
        found,
        gradient,
    )
    hits = float(jnp.mean(jnp.argmax(logits, -1) == labels))
    assert float(batch_last.accuracy(params, pixels, labels)) == pytest.approx(hits)


def test_factors_in_theory_are_the_papers():
    assert [round(METHODS[f"sbc_{n}"].factor()) for n in (1, 2, 3)] == [2784, 3947, 39468]
    assert METHODS["dropping"].factor() == pytest.approx(32_000 / (11.495 + 32), rel=1e-3)
    assert mean_position_bits(0.0001) == pytest.approx(14.788, abs=1e-3)
    assert [METHODS[name].factor() for name in ("dense", "fedavg_10")] == [1, 10]


def test_every_client_owns_its_share_and_sees_all_of_it_every_epoch():
    seen = np.asarray(federated.batches(jax.random.key(0), 4 * 10 + 3, 4, 12, 3))
    assert seen.shape == (4, 12, 3)
    owned = [set(part.ravel()) for part in seen]
    assert [len(part) for part in owned] == [10] * 4
    assert not any(a & b for i, a in enumerate(owned) for b in owned[:i])
    for epoch in range(4):  # 3 whole batches of 3 an epoch
        part = seen[:, 3 * epoch : 3 * epoch + 3].reshape(4, -1)
        assert all(len(set(row)) == 9 for row in part)


def problem():
    """A least squares problem of two tensors, with other examples for every client."""
    keys = jax.random.split(jax.random.key(1), 3)
    params = {"w": jax.random.normal(keys[0], (ENTRIES, 2)), "b": jnp.zeros(2)}
    x = jax.random.normal(keys[1], (CLIENTS, 8, 5, ENTRIES))
    y = jax.random.normal(keys[2], (CLIENTS, 8, 5, 2))

    def loss(params, batch):
        x, y = batch
        return jnp.mean((x @ params["w"] + params["b"][None] - y) ** 2)

    return params, federated.Job(
        loss, (x, y), lambda d, client, s: (d[0][client, s], d[1][client, s])
    )


def sgd(momentum):
    return optax.sgd(0.05, momentum=0.5 if momentum else None)


def trained(how, steps):
    params, job = problem()
    optimizer = how.optimizer(sgd)
    state = federated.create(params, optimizer, CLIENTS, job)
    return params, job, federated.trainer(job, optimizer)(state, steps)


def test_dense_exchange_is_one_worker_with_the_mean_gradient():
    params, job, state = trained(Method("dense"), 4)
    inner = sgd(True)
    oracle = inner.init(params)
    for step in range(4):
        gradients = [
            jax.grad(job.loss)(params, job.batch(job.data, c, step)) for c in range(CLIENTS)
        ]
        mean = jax.tree.map(lambda *g: sum(g) / CLIENTS, *gradients)
        updates, oracle = inner.update(mean, oracle, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), federated.server(state), params
    )
    bits = 4 * 32 * (2 * ENTRIES + 2)
    assert federated.sent(state)["bits"] == federated.sent(state)["dense_bits"] == bits


def test_fedavg_is_the_mean_of_what_clients_reach_alone():
    params, job, state = trained(Method("fedavg", 2), 4)
    inner = sgd(True)
    states = [inner.init(params)] * CLIENTS
    for start in (0, 2):
        ends = []
        for client in range(CLIENTS):
            local = params
            for step in (start, start + 1):
                gradient = jax.grad(job.loss)(local, job.batch(job.data, client, step))
                updates, states[client] = inner.update(gradient, states[client], local)
                local = optax.apply_updates(local, updates)
            ends.append(local)
        params = jax.tree.map(lambda *p: sum(p) / CLIENTS, *ends)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), federated.server(state), params
    )
    assert federated.sent(state)["dense_bits"] == 2 * federated.sent(state)["bits"]


@pytest.mark.parametrize("kind", ["dropping", "dgc", "sbc"])
def test_sparse_methods_agree_on_one_model_and_their_account_adds_up(kind):
    every = 2 if kind == "sbc" else 1
    params, _, state = trained(Method(kind, every, 0.1), 4)
    for leaf in jax.tree.leaves(state.params):
        np.testing.assert_allclose(leaf, np.broadcast_to(leaf[:1], leaf.shape), atol=1e-6)
    counted = federated.per_tensor(state, ["b", "w"])
    # Exact for the sum; each tensor's mean over clients is rounded.
    assert sum(each["bits"] for each in counted.values()) == pytest.approx(
        federated.sent(state)["bits"], abs=2
    )
    assert counted["b"]["sent"] <= 4 // every
    if kind != "sbc":
        assert counted["w"]["sent"] == 4 * 8
    moved = federated.server(state)["w"] != params["w"]
    assert 0 < int(moved.sum()) <= 4 // every * CLIENTS * 8
    assert jax.tree.leaves(tally.find(state.optimizer).u)[1].shape == (CLIENTS, ENTRIES, 2)


def test_the_server_holds_still_between_messages():
    params, _, state = trained(Method("sbc", 3, 0.1), 2)
    jax.tree.map(np.testing.assert_array_equal, federated.server(state), params)
    assert not np.array_equal(state.params["w"][0], params["w"])
    assert federated.sent(state)["bits"] == 0


def test_a_message_made_again_in_other_ways():
    # One client; every entry of the second tensor is far below every entry of the first.
    u = {"a": jnp.arange(1.0, 101.0)[None], "b": 1e-3 * jnp.ones((1, 100))}
    found = shared.compare(u, 0.05)
    assert {way: each["entries"] for way, each in found.items()} == dict(
        zip(shared.WAYS, (10, 10, 10), strict=True)
    )
    per_tensor, tree, counts = (found[way] for way in shared.WAYS)
    top = np.arange(1.0, 101.0)
    norm = (top**2).sum() + 100 * 1e-6
    five, ten = top[-5:].mean(), top[-10:].mean()
    assert per_tensor["captured"] == pytest.approx((5 * five**2 + 5e-6) / norm, rel=1e-5)
    for shared_way in (tree, counts):
        assert shared_way["captured"] == pytest.approx(10 * ten**2 / norm, rel=1e-5)
    assert counts["bits"] < per_tensor["bits"]


@pytest.mark.parametrize(("size", "k"), [(300, 3), (300, 40), (7, 1), (5, 5)])
def test_one_message_in_numpy_is_the_librarys(size, k):
    values = np.random.default_rng(size + k).normal(size=size).astype(np.float32)
    compressor = compress.sparse_binary(k / size)
    u = [jnp.asarray(values)]
    payload, _ = compressor.compress(u, compressor.init(u))
    bits, entries, captured = shared.sent(values, k)
    assert (bits, entries) == (int(payload[0].payload_bits()), int(payload[0].count))
    assert captured == pytest.approx(float(payload[0].count * payload[0].mean ** 2), rel=1e-5)


def few_images():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (120, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(120, dtype=np.int32) % 10
    images[np.arange(120), labels, 14] = 255
    split = data.Split(images, labels)
    return data.Dataset(split, split, split)


def test_a_run_becomes_one_file_and_is_never_repeated(tmp_path):
    run = runs.Run("sbc_2", 0, iterations=20, clients=2, batch=4)
    assert record.record(run, tmp_path, few_images)
    path = tmp_path / f"{run.name}.json"
    before = path.read_bytes()
    assert not record.record(run, tmp_path, few_images)
    assert path.read_bytes() == before
    content = json.loads(before)
    assert content["curves"]["iteration"] == [10, 20]
    assert content["summary"]["nonfinite"] == 0
    # Two messages; k = 1% of every tensor but at least one entry.
    sent = {name: each["sent"] for name, each in content["tensors"].items()}
    assert sent["hidden/kernel"] == 8000 and sent["output/bias"] == 2
    ratio = 32 * 431_080 * 20 / content["summary"]["bits"]
    assert content["summary"]["compression_ratio"] == pytest.approx(ratio)
    assert 0.9 < ratio / METHODS["sbc_2"].factor() < 1.1
    assert content["shared"]["per tensor"]["bits"] == pytest.approx(
        content["curves"]["bits"][1] - content["curves"]["bits"][0], rel=0.05
    )


def test_the_grid_gives_every_method_of_a_seed_before_the_next():
    grid = list(runs.grid(3))
    assert [run.method for run in grid[: len(METHODS)]] == list(METHODS)
    assert [run.seed for run in grid] == sorted(run.seed for run in grid)
    assert len({run.name for run in grid}) == len(grid) == 3 * len(METHODS)
    assert all(run.iterations == 2000 and run.clients * run.batch == 512 for run in grid)
    for run in grid:
        assert set(run.stops()) >= {100, 1000, 2000}
        assert max(np.diff(run.stops())) <= 200


def fake(folder, run, accuracy, bits):
    """A result file with chosen numbers: two tensors, of 1,000 and of 10 entries."""
    dense = 32 * 1010 * run.iterations
    rounds = run.iterations // run.how.every
    ways = {way: {"bits": 100.0, "entries": 10.0, "captured": 0.5} for way in shared.WAYS}
    content = {
        **{
            field: getattr(run, field)
            for field in ("method", "seed", "iterations", "clients", "batch")
        },
        "summary": {
            "test_accuracy": accuracy,
            "bits": bits,
            "wire_bytes": bits / 4,
            "compression_ratio": dense / bits,
            "wire_ratio": dense / (2 * bits),
        },
        "curves": {
            "iteration": [10, run.iterations],
            "bits": [0, bits],
            "test_accuracy": [0.5, accuracy],
        },
        "tensors": {
            "bias": {"entries": 10, "bits": bits // 2, "sent": rounds},
            "kernel": {"entries": 1000, "bits": bits // 2, "sent": 10 * rounds},
        },
        "shared": ways if run.how.kind == "sbc" else None,
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def row(text, start):
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_by_hand(tmp_path):
    for seed, (dense, sbc) in enumerate(((0.99, 0.98), (0.97, 0.97))):
        fake(tmp_path, runs.Run("dense", seed), dense, 32 * 1010 * 2000)
        fake(tmp_path, runs.Run("sbc_2", seed), sbc, 32 * 1010 * 2000 // 2000)
    fake(tmp_path, runs.Run("dropping", 0), 0.96, 32 * 1010 * 2000 // 500)
    fake(tmp_path, runs.Run("sbc_1", 0, iterations=20), 0.1, 100)  # Another length: left out.
    found = results.load(tmp_path)
    assert list(found) == ["dense", "dropping", "sbc_2"]
    main = tables.main(found)
    assert row(main, "| SBC(2)")[1:5] == ["10", "0.01", "2", "97.50 ± 0.71"]
    assert row(main, "| SBC(2)")[5].startswith("-0.50 [")
    assert row(main, "| SBC(2)")[8:] == ["x2,000", "x1,000", "-", "x3,947", "51%"]
    # 11 entries of 48 bits for 1,010 of 32.
    assert row(main, "| gradient")[10] == f"x{32 * 1010 / (48 * 11):.1f}"
    ratio = 32 * 1000 * 2000 / (32 * 1010 * 2000 // 2000 // 2)
    expected = f"x{ratio:,.0f} ({100 * ratio / METHODS['sbc_2'].factor():.0f}%)"
    assert row(tables.tensors(found), "| kernel") == ["kernel", "1,000", "10", expected]
    assert row(tables.shared(found), "| SBC(2) | tree")[2:5] == ["10", "100", "10.00"]


def test_the_report_is_made_from_files_alone(tmp_path):
    for run in runs.grid(2):
        fake(tmp_path, run, 0.9 + 0.01 * run.seed, 1000.0)
    report.write(tmp_path)
    assert "2,000 iterations" in (tmp_path / "tables.md").read_text()
    for name in ("error_iterations", "error_bits"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_no_results_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        results.load(tmp_path)


def test_the_readme_shows_the_tables_of_the_committed_results():
    wanted = report.text(results.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_the_command_line_runs_the_asked_methods(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main(["--only=sbc_1", "--only=dense", "--seeds=2", f"--out={tmp_path}"])
    assert [(run.method, run.seed) for run in seen] == [
        ("dense", 0),
        ("sbc_1", 0),
        ("dense", 1),
        ("sbc_1", 1),
    ]
    assert "4 of 4" in capsys.readouterr().out


def test_missing_data_is_one_sentence(tmp_path):
    environment = os.environ | {"SPARSETRAIN_DATA": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.sbc_lenet_mnist", f"--out={tmp_path}/out"],
        env=environment | {"TFDS_DATA_DIR": str(tmp_path / "tfds")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "mnist" in done.stderr


@pytest.mark.needs_data("mnist")
def test_all_training_images_are_used(data_dir, monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(data_dir("mnist").parent))
    found = record.load()
    assert found.train.images.shape == (60_000, 28, 28, 1)
    assert len(found.test.labels) == 10_000
