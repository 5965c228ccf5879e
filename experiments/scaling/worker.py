"""One process of the measurement: every method on every workload, at every rate; started by `__main__`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

from experiments.scaling import network
from experiments.scaling.methods import METHODS, Method
from experiments.scaling.split_step import AXIS, SplitStep
from experiments.scaling.workloads import RATE, WORKLOADS, Workload
from sparsetrain import compress, runtime
from sparsetrain.runtime.byte_gather import Gathered, gather_bytes

# Periods (steps up to an exchange, and that) of a method that are timed: many where one is short.
PERIODS = {1: 5, 10: 3, 100: 1}
PARTS = ("gradient", "selection", "exchange", "apply")
# Bare collectives, for the cost model: entries of a dense sum, and pairs of a gather.
SUMMED = (10_000, 1_000_000, 25_000_000)
GATHERED = (1_000, 25_000, 250_000)
PROBES = 7


class Links:
    """The rates that are gone through, and how one is set."""

    def __init__(self, host: str | None, switch: str | None, index: int):
        self._host, self._switch, self._index = host, switch, index
        self.rates = network.RATES if host else {"loopback": None}

    def set(self, rate: str) -> None:
        """Limits this process's link, and waits for the others."""
        if self._host and self._switch:
            network.limit(self._host, self._switch, self._index, self.rates[rate])
        meet(rate)

    def sent(self) -> int | None:
        """Bytes that have left over the link; None where there is none of our own."""
        return network.sent_bytes() if self._host else None


def meet(name: str) -> None:
    """Waits for all processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


class Stopwatch:
    """Adds up seconds under names, each since the last one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def start(self) -> None:
        """From here on."""
        self._last = time.perf_counter()

    def note(self, name: str, made: Any = None) -> None:
        """Up to here, when `made` is there, it was this part."""
        jax.block_until_ready(made)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def exchanged(method: Method, workload: Workload, links: Links) -> list[dict[str, Any]]:
    """Times a method that exchanges within compiled programs.

    Returns:
      A row for every rate.
    """
    mesh = runtime.worker_mesh()
    inner = optax.sgd(RATE)
    exchange = compress.exchange(method.compressor(), method.memory(), axis_name=AXIS)
    run = runtime.data_parallel(workload.loss, optax.chain(exchange, inner), mesh)
    batches = [run.place(workload.batch(i)) for i in range(workload.distinct)]
    trained, loss = run.init(workload.params), None
    for step in range(workload.steps):
        trained, _ = run.step(trained, batches[step % workload.distinct])
    if workload.steps and workload.final_loss:
        loss = workload.final_loss(jax.device_get(run.params(trained)))
    rows = []

    def whole(step: int) -> None:
        nonlocal trained
        trained, value = run.step(trained, batches[step % workload.distinct])
        jax.block_until_ready((trained, value))

    whole(0)
    for rate in links.rates:
        links.set(rate)
        rows.append({"rate": rate, "loss": loss} | timed(whole, method, links))
    account = compress.report(jax.tree.map(own_part, trained.opt_state))
    steps = workload.steps + 1 + len(links.rates) * (PERIODS[1] + 1)
    del trained
    split = SplitStep(workload.loss, method.compressor(), method.memory(), inner, mesh)
    held = split.init(workload.params)
    held = split(held, batches[0])
    for row in rows:
        links.set(row["rate"])
        parts: dict[str, list[float]] = {name: [] for name in PARTS}
        for step in range(PERIODS[1] + 1):
            watch = Stopwatch()
            held = split(held, batches[step % workload.distinct], watch.note)
            if step:
                for name in PARTS:
                    parts[name].append(watch.seconds[name])
        row["parts"] = {name: float(np.median(values)) for name, values in parts.items()}
        row |= {name: account[name] / steps for name in ("moved_bytes", "wire_bytes", "bits_sent")}
    return rows


def in_messages(method: Method, workload: Workload, links: Links) -> list[dict[str, Any]]:
    """Times a method whose messages the host encodes.

    Returns:
      As `exchanged`.

    Raises:
      ValueError: the ledger and the messages do not agree.
    """
    watch, lengths = Stopwatch(), []

    def gather(messages: Sequence[bytes]) -> Gathered:
        watch.note("before")
        found = gather_bytes(messages)
        watch.note("exchange")
        lengths.append(sum(len(message) for message in messages))
        return found

    tx = compress.local_steps(optax.sgd(RATE), method.every, method.compressor())
    run = runtime.message_training(workload.loss, tx, gather=gather)
    batches = [run.place(workload.batch(i)) for i in range(workload.distinct)]
    trained, loss = run.init(workload.params), None
    steps = 0

    def whole(step: int) -> None:
        nonlocal trained, steps
        watch.start()
        trained, value = run.step(trained, batches[step % workload.distinct])
        jax.block_until_ready((trained, value))
        speaks = (steps + 1) % method.every == 0
        watch.note("apply" if speaks else "gradient")
        steps += 1

    for step in range(workload.steps or method.every):
        whole(step)
    if workload.steps and workload.final_loss:
        loss = workload.final_loss(jax.device_get(run.params(trained)))
    rows = []
    for rate in links.rates:
        links.set(rate)
        watch.seconds.clear()
        row: dict[str, Any] = {"rate": rate, "loss": loss} | timed(whole, method, links)
        periods = PERIODS[method.every] + (method.every == 1)
        found = {name: seconds / periods for name, seconds in watch.seconds.items()}
        # The last local step before a message is in one program with the selection: it takes what others take.
        walks = method.every - 1
        walk = found.get("gradient", 0.0) / walks if walks else alone(workload, run, batches)
        parts = {
            "gradient": method.every * walk,
            "selection": max(0.0, found["before"] - walk),
            "exchange": found["exchange"],
            "apply": found["apply"],
        }
        row["parts"] = {name: seconds / method.every for name, seconds in parts.items()}
        rows.append(row)
    account = compress.report(jax.tree.map(own_part, trained.opt_state))
    if account["wire_bytes"] != sum(lengths):
        raise ValueError(
            f"{method.label}: ledger {account['wire_bytes']} B, messages {sum(lengths)} B"
        )
    for row in rows:
        row |= {name: account[name] / steps for name in ("moved_bytes", "wire_bytes", "bits_sent")}
    return rows


def alone(workload: Workload, run: Any, batches: Sequence[Any]) -> float:
    """Seconds of a local step, for a method that has none without a message."""
    tx = compress.local_steps(optax.sgd(RATE), 1_000_000, compress.sparse_binary(0.01))
    walker = runtime.message_training(workload.loss, tx)
    trained, seconds = walker.init(workload.params), []
    for step in range(PERIODS[1] + 1):
        begin = time.perf_counter()
        trained, _ = walker.step(trained, batches[step % workload.distinct])
        jax.block_until_ready(trained)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[1:]))


def timed(whole: Callable[[int], None], method: Method, links: Links) -> dict[str, Any]:
    """Seconds of a step over whole periods, and bytes that left over the link."""
    step, seconds = 0, []
    # The first after a change of rate fills buckets and buffers; a long period does so by itself.
    for period in range(-(method.every == 1), PERIODS[method.every]):
        if period == 0:
            before = links.sent()
        begin = time.perf_counter()
        for _ in range(method.every):
            whole(step)
            step += 1
        if period >= 0:
            seconds.append((time.perf_counter() - begin) / method.every)
    after = links.sent()
    sent = None if before is None or after is None else after - before
    return {
        "step_seconds": seconds,
        "link_bytes": sent and sent / (PERIODS[method.every] * method.every),
    }


def probes(links: Links) -> list[dict[str, Any]]:
    """Times bare collectives: nothing is selected, and nothing is added up that was gathered."""
    mesh = runtime.worker_mesh()
    rows = P(AXIS)

    def program(function: Callable[[jax.Array], jax.Array], outputs: P) -> Any:
        return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=outputs))

    summed = program(lambda x: lax.psum(x[0], AXIS), P())
    gathered = program(lambda x: lax.all_gather(x, AXIS, tiled=True), P(None, AXIS))
    found = []
    for rate in links.rates:
        links.set(rate)
        for function, kind, sizes in ((summed, "ring", SUMMED), (gathered, "top_k", GATHERED)):
            for size in sizes:
                # A pair is two words.
                words = size if kind == "ring" else 2 * size
                place = runtime.data_parallel(lambda p, b: 0.0, optax.identity(), mesh).place
                operands = [place(np.full((1, words), n, np.float32)) for n in range(2)]
                seconds = []
                for call in range(PROBES + 1):
                    meet("probe")
                    begin = time.perf_counter()
                    jax.block_until_ready(function(operands[call % 2]))
                    seconds.append(time.perf_counter() - begin)
                found.append({"rate": rate, "kind": kind, "size": size, "seconds": seconds[1:]})
    return found


def own_part(leaf: Any) -> Any:
    """Of an array over all processes, what this one can read; one row of what is stacked."""
    return leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf


def main(argv: Sequence[str]) -> None:
    """Measures, and writes `<out>/<number of the process>.json`."""
    parser = argparse.ArgumentParser("python -m experiments.scaling.worker")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--host")
    parser.add_argument("--switch")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, required=True)
    parser.add_argument("--method", action="append", choices=METHODS, required=True)
    options = parser.parse_args(argv)
    with runtime.start() as job:
        links = Links(options.host, options.switch, job.index)
        found: dict[str, Any] = {"rows": [], "probes": probes(links) if job.count > 1 else []}
        for name in options.workload:
            workload = WORKLOADS[name](job.index)
            entries = sum(leaf.size for leaf in jax.tree.leaves(workload.params))
            for key in options.method:
                method = METHODS[key]
                measure = in_messages if method.in_messages else exchanged
                begin = time.perf_counter()
                for row in measure(method, workload, links):
                    found["rows"].append(
                        {"workload": name, "method": key, "entries": entries} | row
                    )
                if job.index == 0:
                    print(
                        f"{name}, {method.label}: {time.perf_counter() - begin:.0f} s", flush=True
                    )
                jax.clear_caches()
        path = options.out / f"{job.index}.json"
        path.write_text(json.dumps(found))
        meet("written")


if __name__ == "__main__":
    # A core for each worker as far as there are cores, before JAX starts its threads.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("JAX_PROCESS_ID", 0)) % len(cores)]})
    main(sys.argv[1:])
