"""Starts the processes of one job on this machine, and answers for all of them.

    python -m experiments.launch --processes=4 -- --config=configs/digits.py --workdir=runs/digits

Each line that a process prints comes out under its number. When one dies, the others are ended and
one message on standard error says which it was, how it ended and what it wrote last; the exit code is
that of the process, or 128 + signal as in a shell. An interrupted or killed launcher leaves no process
behind either. On a cluster start one launcher per host with `--cluster` instead of `--processes`:

    srun python -m experiments.launch --cluster -- --config=configs/digits.py --workdir=runs/digits

Nothing here knows JAX, so the launcher starts at once and cannot itself hang in a collective.
"""

import argparse
import contextlib
import os
import queue
import signal
import socket
import sys
from collections.abc import Sequence

from experiments import supervise


def local(processes: int, platform: str) -> list[tuple[str, dict[str, str]]]:
    """Name and environment of each process of a job on this machine; `runtime.start` reads them.

    Args:
      processes: how many.
      platform: for JAX_PLATFORMS; each process sees one device of an accelerator.

    Example:
      >>> [(name, found["JAX_PROCESS_ID"]) for name, found in local(2, "cpu")]
      [('0', '0'), ('1', '1')]
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {
        "JAX_COORDINATOR_ADDRESS": address,
        # JAX would listen on all interfaces, and whoever connects is trusted.
        "JAX_COORDINATOR_BIND_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PLATFORMS": platform,
    }
    own = ["JAX_PROCESS_ID"] if platform == "cpu" else ["JAX_PROCESS_ID", "JAX_LOCAL_DEVICE_IDS"]
    names = [str(index) for index in range(processes)]
    return [(name, shared | dict.fromkeys(own, name)) for name in names]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of the launcher; what follows "--" is the program's."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.launch", description=(__doc__ or "").partition("\n")[0]
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--processes", type=int, metavar="N", help="processes on this machine")
    where.add_argument(
        "--cluster",
        nargs="?",
        const="auto",
        metavar="KIND",
        help="one process, which JAX joins to those of other hosts (auto, slurm, ompi, mpi4py)",
    )
    parser.add_argument("--module", default="experiments.main", help="the program (%(default)s)")
    parser.add_argument(
        "--platform",
        default=os.environ.get("JAX_PLATFORMS") or "cpu",
        help="where --processes compute: cpu, or cuda with one GPU each (%(default)s)",
    )
    parser.add_argument("arguments", nargs="*", help="of the program, behind --")
    here = list(argv).index("--") if "--" in argv else len(argv)
    options, unknown = parser.parse_known_args(argv[:here])
    if unknown or options.arguments:
        wrong = [*unknown, *options.arguments][0]
        parser.error(f"{wrong} is not a flag: put the program's own arguments behind --")
    options.arguments = list(argv[here + 1 :])
    if options.processes is not None and options.processes < 1:
        parser.error(f"--processes={options.processes}: must be at least 1")
    return options


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    if options.cluster:
        places = [(socket.gethostname(), {"SPARSETRAIN_CLUSTER": options.cluster})]
    else:
        places = local(options.processes, options.platform)
    events: supervise.Events = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # As `nohup` leaves it.
            signal.signal(number, lambda number, frame: events.put(signal.Signals(number)))
    command = [sys.executable, "-m", options.module, *options.arguments]
    workers: list[supervise.Worker] = []
    try:
        # All before the first thread: `preexec_fn` and threads do not go together.
        for name, environment in places:
            workers.append(supervise.Worker(name, command, environment))
        return supervise.follow(workers, events)
    finally:
        supervise.stop(workers)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Python would complain when it closes a stream whose reader has gone.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
