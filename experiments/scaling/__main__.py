"""Measures what is missing with 1, 2 and 4 processes, then writes the tables.

    python -m experiments.scaling

Each process is a host of its own, whose link is limited; that needs Linux, root and the commands `ip` and `tc`. Where
the machine does not allow it, `--loopback` measures without limits. Needs MNIST in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import contextlib
import dataclasses
import json
import queue
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    from benchmarks import machine
    from experiments import launch, supervise
    from experiments.grid import complete, write_once
    from experiments.scaling import network, report
    from experiments.scaling.methods import METHODS
    from experiments.scaling.workloads import WORKLOADS
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")

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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.scaling")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--workers", type=int, action="append", help="processes, may be repeated; 1, 2 and 4"
    )
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="default: all")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all")
    parser.add_argument("--loopback", action="store_true", help="no hosts, no limits")
    return parser.parse_args(argv)


def record(run: Run, out: Path) -> bool:
    """Measures, unless the result is there."""
    return write_once(run, out, lambda: measured(run))


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


def main(argv: Sequence[str]) -> None:
    """Measures and reports."""
    options = parse(argv)
    chosen = tuple(options.workload or WORKLOADS), tuple(options.method or METHODS)
    grid = [Run(count, *chosen, options.loopback) for count in options.workers or (1, 2, 4)]
    complete(
        grid,
        options.out,
        record,
        report.write,
        "tables",
        (FileNotFoundError, OSError, RuntimeError),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
