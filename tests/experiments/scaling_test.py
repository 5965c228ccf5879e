import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.scaling import __main__ as command
from experiments.scaling import network, report, tables, worker, workloads
from experiments.scaling.methods import METHODS
from experiments.scaling.split_step import AXIS, SplitStep
from sparsetrain import compress, runtime
from sparsetrain.runtime.cost_model import Exchange, predict


@pytest.mark.parametrize("name", ["dense", "top_k", "dls"])
def test_a_step_in_four_programs_is_the_step_in_one(name):
    method, mesh = METHODS[name], runtime.worker_mesh(jax.devices()[:1])
    params = {"w": jnp.zeros((30, 100)), "b": jnp.zeros(40)}

    def loss(params, batch):
        return jnp.mean((batch @ params["w"]) ** 2 + batch.sum()) + jnp.sum(params["b"] * batch[0])

    inner = optax.sgd(0.1, momentum=0.9)
    exchange = compress.exchange(method.compressor(), method.memory(), axis_name=AXIS)
    run = runtime.data_parallel(loss, optax.chain(exchange, inner), mesh)
    split = SplitStep(loss, method.compressor(), method.memory(), inner, mesh)
    params["w"] = jax.random.normal(jax.random.key(0), (40, 100))
    trained, held, seen = run.init(params), split.init(params), []
    for step in range(3):
        batch = run.place(np.random.default_rng(step).standard_normal((2, 40)).astype(np.float32))
        trained, _ = run.step(trained, batch)
        held = split(held, batch, lambda name, made: seen.append(name))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        held.params,
        trained.params,
    )
    assert seen == 3 * ["gradient", "selection", "exchange", "apply"]
    assert compress.report(held.own) == compress.report(trained.opt_state)


def test_one_process_measures_every_kind_of_method(tmp_path, monkeypatch):
    monkeypatch.setattr(workloads, "WIDTH", 32)
    monkeypatch.setattr(worker, "PERIODS", {1: 2, 10: 1})
    arguments = [f"--method={name}" for name in ("dense", "top_k", "sbc_1", "sbc_2")]
    worker.main([f"--out={tmp_path}", "--workload=tree", *arguments])
    written = json.loads((tmp_path / "0.json").read_text())
    assert [row["method"] for row in written["rows"]] == ["dense", "top_k", "sbc_1", "sbc_2"]
    for row in written["rows"]:
        assert row["entries"] == 6 * (32 * 32 + 32) and row["rate"] == "loopback"
        assert min(row["step_seconds"]) > 0 and row["parts"].keys() == set(tables.PARTS)
    # A message of SBC(2) in ten steps; what is dense goes out whole at each, with a header.
    dense, _, _, delayed = (row["wire_bytes"] for row in written["rows"])
    assert 0 <= dense - 4 * 6336 < 300 and delayed < dense / 100


def result(workers, slowdown=1.0):
    """A result file on a network of 10 ms and 8 Mbit/s, as the model would have it."""
    made, link = [], {"100 Mbit/s": tables.Network(10e-3, 8e6)}
    for name in ("dense", "top_k"):
        method = METHODS[name]
        for rate, limits in link.items():
            wire = 0.0
            if workers > 1:
                setting = {"workers": workers, "entries": 1e6, "density": method.density}
                wire = float(predict(Exchange(method.model), limits, **setting).exchange)
            parts = {"gradient": 0.3, "selection": 0.1, "exchange": wire, "apply": 0.1}
            row = {"workload": "tree", "method": name, "entries": 1e6, "rate": rate, "loss": None}
            row |= {"parts": parts, "step_seconds": [0.5 + slowdown * wire], "link_bytes": None}
            made.append(row | {"bits_sent": 8e3, "wire_bytes": 1e3, "moved_bytes": 2e3})
    probes = []
    for kind, size in (("ring", 10**6), ("top_k", 25_000)):
        density = 1.0 if kind == "ring" else size / tables.PROBED
        entries = size if kind == "ring" else tables.PROBED
        cost = predict(
            Exchange(kind), link["100 Mbit/s"], workers=workers, entries=entries, density=density
        )
        # One call in which the other process was late: of that it is no part.
        time = float(cost.exchange)
        probes.append({"rate": "100 Mbit/s", "kind": kind, "size": size, "seconds": [9.0, time]})
    late = [{**probe, "seconds": [probe["seconds"][1], 9.0]} for probe in probes]
    processes = [{"rows": made, "probes": probes if workers > 1 else []}]
    if workers > 1:
        processes.append({"rows": made, "probes": late})
    return {"workers": workers, "cores": 8, "processes": processes}


def test_tables_compare_with_dense_and_with_the_model(tmp_path):
    for workers, slowdown in ((1, 1), (2, 1), (4, 2)):
        path = tmp_path / f"workers_{workers}.json"
        path.write_text(json.dumps(result(workers, slowdown)))
    report.write(tmp_path)
    text = (tmp_path / "tables.md").read_text()
    # Two workers, ring: 2 messages and 32 Mbit; top-k: 1 message and 64 kbit.
    dense, sparse = 0.5 + 0.02 + 4.0, 0.5 + 0.01 + 0.008
    assert f"| 2 | dense | {dense * 1e3:,.0f} |" in text
    assert f"| 2 | top-k | {sparse * 1e3:,.0f} ({dense / sparse:.1f}x) |" in text
    assert "10000 us, 8 Mbit/s" in text
    assert "| 25.2M | 2 | dense | 100 Mbit/s | 500 | 4,020 | 4,520 | 4,520 | +0% |" in text
    # Exchanges of four that took twice as long as predicted: 60 ms and 6 s.
    assert f"| {(0.5 + 6.06) / (0.5 + 12.12) - 1:+.0%} |" in text
    rows = json.loads((tmp_path / "measured.json").read_text())
    assert len(rows) == 4 and max(row["seconds"] for row in rows) < 9.0


def test_readme_shows_the_tables_of_its_results():
    written = (report.RESULTS / "tables.md").read_text()
    assert written in report.README.read_text()


def test_links_of_hosts_are_limited_and_leave_nothing_behind():
    try:
        with network.hosts(2) as hosts:
            for index, name in enumerate(hosts.names):
                network.limit(name, hosts.switch, index, "100mbit")
            seconds = transfer(hosts, megabytes=20)
            network.limit(hosts.names[0], hosts.switch, 0, None)
            network.limit(hosts.names[1], hosts.switch, 1, None)
            free = transfer(hosts, megabytes=20)
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    # 160 Mbit, less what a bucket lets through at once.
    assert seconds > 1.5 and free < seconds / 2
    assert not any(name in left for name in (*hosts.names, hosts.switch))


SERVER = """
import socket
with socket.create_server(("0.0.0.0", 9911)) as server:
    print("ready", flush=True)
    link, _ = server.accept()
    while link.recv(1 << 16):
        pass
    link.sendall(b"!")
"""
CLIENT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 9911)) as link:
    begin = time.perf_counter()
    link.sendall(bytes(int(sys.argv[2]) * 1_000_000))
    link.shutdown(socket.SHUT_WR)
    assert link.recv(1) == b"!"
    print(time.perf_counter() - begin)
"""


def transfer(hosts, megabytes):
    """Seconds that bytes take from one host to the other."""
    server = subprocess.Popen(
        [*hosts.command(0), sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == "ready\n"
        client = [*hosts.command(1), sys.executable, "-c", CLIENT, hosts.address(0), str(megabytes)]
        done = subprocess.run(client, capture_output=True, text=True, check=True, timeout=60)
    finally:
        server.kill()
        server.communicate()
    return float(done.stdout)


def test_command_line_names_what_it_does_not_know(capsys):
    with pytest.raises(SystemExit):
        command.parse(["--method=none"])
    assert "dense" in capsys.readouterr().err
    assert command.parse([]).workers is None
