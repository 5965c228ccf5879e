"""Processes of one job: `jax.distributed`, with an end that nobody waits for.

JAX's runtime finds the processes, watches their heartbeats and carries their collectives. Left to its
defaults it is slow to fail: a dead process is noticed after 100 s, and a process that ends by an
exception waits 300 s for the others, which wait for it in a collective. `start` shortens the first,
and `with start(): ...` does away with the second.
"""

import contextlib
import dataclasses
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any

import jax

# `jax.process_count()` would start the devices, which is too early before all agree.
from jax._src import distributed

# What `experiments.launch` sets. JAX reads the first itself, and has no name for the others.
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
CLUSTER = "SPARSETRAIN_CLUSTER"


@dataclasses.dataclass(frozen=True)
class Job:
    """This process among its job's; a context that a failing process leaves without waiting.

    JAX lets a process that ends wait for all others, which is right when it is done and a deadlock
    when it has failed: they wait for it in a collective. So an exception that leaves the context is
    reported as Python would report it, and then the process is gone at once. With one process
    exceptions pass through.

    Attributes:
      index: number of this process, from 0; process 0 writes results.
      count: number of processes.
    """

    index: int
    count: int

    def __enter__(self) -> "Job":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or error is None or self.count == 1:
            return
        code: Any = 1
        if isinstance(error, SystemExit):
            code = error.code
            if code in (None, 0):
                return
            if not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        else:
            sys.excepthook(kind, error, trace)
        if self.index == 0:
            # It takes the coordinator along, and then JAX aborts the others with a stack trace;
            # they may be about to say in one sentence what is wrong.
            time.sleep(1)
        _leave(code)


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    cluster: str | None = None,
    initialization_seconds: int | None = None,
    heartbeat_seconds: int = 20,
) -> Job:
    """Joins the processes of a job by `jax.distributed.initialize`; call it before JAX computes anything.

    Where the job comes from, first match: the arguments; the environment variables
    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, which `experiments.launch`
    sets; a cluster that JAX recognises (Slurm, Open MPI, Kubernetes, Cloud TPU), if asked for by
    `cluster` or by the variable `SPARSETRAIN_CLUSTER`. Otherwise this process is alone and nothing
    happens. A cluster has to be asked for because an interactive shell on one looks like a job.

    CPU collectives go over gloo. A SIGTERM ends the process, where JAX would take it for the
    announcement of a preemption and go on: runs here continue from their last checkpoint anyway. A
    later call only returns the same place.

    Args:
      coordinator_address: "host:port" of process 0, the same everywhere.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      cluster: "auto", or the name of one of JAX's detection methods, such as "slurm" or "mpi4py".
      initialization_seconds: how long to wait for the others; by default 40, and 300 on a cluster,
        where hosts come up one after another. A process that waits in vain says so and exits with
        code 1: JAX would abort it.
      heartbeat_seconds: how long a process may be silent before it counts as dead, and JAX ends all
        others. A killed process is mostly noticed at once, by its closed connections.

    Returns:
      This process's place. Use it as a context, so that a failure here does not leave others waiting.

    Raises:
      ValueError: some of the three coordinates are given and some are not, a number is out of range,
        or no cluster is recognised.

    Example:
      >>> with start() as job:  # Neither arguments nor variables: one process.
      ...     print(job.index, job.count)
      0 1
    """
    state = distributed.global_state
    if jax.distributed.is_initialized():
        return Job(state.process_id, state.num_processes)
    given = _coordinates(coordinator_address, num_processes, process_id)
    cluster = cluster or os.environ.get(CLUSTER)
    if given is None and not cluster:
        return Job(0, 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)
    seconds = initialization_seconds or (300 if given is None else 40)
    address, count, index = given or (None, None, None)
    found = "deactivate" if given else None if cluster == "auto" else cluster
    # JAX aborts a process that waits in vain, with a stack trace; so this one leaves just before.
    where = f"process {index} of {count} at {address}" if given else f"this process ({cluster})"
    watch = threading.Timer(seconds, _give_up, [f"{where} has not met all others in {seconds} s"])
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            cluster_detection_method=found,
            initialization_timeout=seconds + 10,
            heartbeat_timeout_seconds=heartbeat_seconds,
        )
    except (ValueError, KeyError) as error:  # The second for a variable that Slurm would have set.
        if given:
            raise
        raise ValueError(
            f"cluster={cluster!r}: JAX recognises none here ({error}); start the processes of this "
            "machine by  python -m experiments.launch --processes=<N> -- ..."
        ) from error
    finally:
        watch.cancel()
    return Job(state.process_id, state.num_processes)


def _coordinates(
    address: str | None, count: int | None, index: int | None
) -> tuple[str, int, int] | None:
    """Address, number of processes and number of this one, from arguments and environment."""
    given = {
        "coordinator_address": address or os.environ.get(ADDRESS),
        "num_processes": os.environ.get(COUNT) if count is None else count,
        "process_id": os.environ.get(INDEX) if index is None else index,
    }
    # The address alone is a hint to JAX's detection of clusters.
    if given["num_processes"] is None and given["process_id"] is None and not address:
        return None
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ValueError(
            f"{missing[0]} is missing: give all of {', '.join(given)}, or set {ADDRESS}, {COUNT} "
            f"and {INDEX}"
        )
    numbers = int(given["num_processes"] or 0), int(given["process_id"] or 0)
    if not 0 <= numbers[1] < numbers[0]:
        raise ValueError(
            f"process_id={numbers[1]}: must lie in 0..{numbers[0] - 1}, num_processes={numbers[0]}"
        )
    return str(given["coordinator_address"]), *numbers


def _give_up(text: str) -> None:
    print(f"{text}: is one of them missing, or the port closed?", file=sys.stderr)
    _leave(1)


def _leave(code: int) -> None:
    """Ends the process without the handlers of `atexit`, of which JAX's waits for the others."""
    with contextlib.suppress(OSError, ValueError):  # Nobody may be reading any more.
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code % 256 or 1)
