"""The processes of one measurement: started, each on a host of its own, and put together."""

import contextlib
import dataclasses
import json
import queue
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine
from experiments import launch, supervise
from experiments.scaling import network

PORT = 9911  # the hosts' own


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that is measured with one number of processes."""

    workers: int
    workloads: tuple[str, ...]
    methods: tuple[str, ...]
    loopback: bool = False

    @property
    def name(self) -> str:
        """Of the result file."""
        return f"workers_{self.workers}"


def measured(run: Run) -> dict[str, Any]:
    """Starts the processes, and puts together what they found.

    Args:
      run: what to measure.

    Returns:
      "processes": of each, in their order, what `worker.main` wrote.

    Raises:
      RuntimeError: a process failed; it has said how.
      OSError: the machine allows no hosts.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = [sys.executable, "-m", "experiments.scaling.worker", f"--out={folder}"]
        command += [f"--workload={name}" for name in run.workloads]
        command += [f"--method={name}" for name in run.methods]
        places = launch.local(run.workers, "cpu")
        commands = [command] * run.workers
        if run.workers > 1 and not run.loopback:
            hosts = stack.enter_context(network.hosts(run.workers))
            address = {
                name: f"{hosts.address(0)}:{PORT}"
                for name in ("JAX_COORDINATOR_ADDRESS", "JAX_COORDINATOR_BIND_ADDRESS")
            }
            places = [(name, environment | address) for name, environment in places]
            commands = [
                [*hosts.command(i), *command, f"--host={name}", f"--switch={hosts.switch}"]
                for i, name in enumerate(hosts.names)
            ]
        workers: list[supervise.Worker] = []
        try:
            for (name, environment), own in zip(places, commands, strict=True):
                workers.append(supervise.Worker(name, own, environment))
            code = supervise.follow(workers, queue.SimpleQueue())
        finally:
            supervise.stop(workers)
        if code:
            raise RuntimeError(f"{run.name}: ended with code {code}")
        written = [json.loads((folder / f"{i}.json").read_text()) for i in range(run.workers)]
    return {"cores": machine.cores_in_use(), "processes": written}
