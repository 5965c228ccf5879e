"""Worker processes under one eye: labelled output, one message when one fails, none left behind."""

import collections
import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple

LAST_LINES = 15
# From SIGTERM to SIGKILL. Nothing is lost: a run continues from its last checkpoint.
GRACE_SECONDS = 3.0
# Peers of a dead process fail too, and may be noticed before it.
BLAME_SECONDS = 0.3

PR_SET_PDEATHSIG = 1


class End(NamedTuple):
    """How a worker ended; a negative code is a signal."""

    worker: "Worker"
    code: int
    time: float


# What the main thread waits for: the end of a worker, or the number of a signal.
Events = queue.SimpleQueue[End | signal.Signals]


class Worker:
    """One process, in a group of its own together with whatever it starts.

    Args:
      name: what its lines are labelled with.
      command: program and arguments.
      environment: added to the launcher's own.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )
        self._waiter: threading.Thread | None = None

    def follow(self, events: Events) -> None:
        """Passes on what it prints and, when it has ended, how; returns at once."""
        assert self.process.stdout is not None and self.process.stderr is not None
        streams = (
            (self.process.stdout, sys.stdout.buffer),
            (self.process.stderr, sys.stderr.buffer),
        )
        readers = [
            threading.Thread(target=self._read, args=(*pair, events), daemon=True)
            for pair in streams
        ]
        self._waiter = threading.Thread(target=self._wait, args=(readers, events), daemon=True)
        for thread in (*readers, self._waiter):
            thread.start()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and all it has started, unless it has ended."""
        if self.process.returncode is None:
            _to_group(self.process.pid, number)

    def join(self, seconds: float | None = None) -> None:
        """Waits until it has ended and all it printed is passed on."""
        if self._waiter is not None:
            self._waiter.join(seconds)

    def _read(self, source: IO[bytes], sink: IO[bytes], events: Events) -> None:
        for line in iter(lambda: source.readline(1 << 16), b""):
            if sink is sys.stderr.buffer:
                self.last.append(line.decode(errors="replace").rstrip())
            try:
                # One call, so that lines of different workers do not mix.
                sink.write(f"[{self.name}] ".encode() + line.rstrip(b"\n") + b"\n")
                sink.flush()
            except OSError:
                events.put(signal.SIGPIPE)  # Nobody reads what we print.
                return

    def _wait(self, readers: Sequence[threading.Thread], events: Events) -> None:
        code = self.process.wait()
        ended = time.monotonic()
        # What it started and left behind; that also closes its pipes.
        _to_group(self.process.pid, signal.SIGKILL)
        for reader in readers:
            reader.join(2)
        events.put(End(self, code, ended))


def follow(workers: Sequence[Worker], events: Events) -> int:
    """Follows workers to their end, or ends them all as soon as one fails or a signal comes.

    Args:
      workers: started.
      events: where signals arrive too.

    Returns:
      Exit code: 0 if every worker ended with 0.
    """
    for worker in workers:
        worker.follow(events)
    for _ in workers:
        event = events.get()
        if isinstance(event, signal.Signals):
            stop(workers)
            if event is not signal.SIGPIPE:
                _say(f"launch: ended by {event.name}; {_count(workers)} stopped")
            return 128 + event
        if event.code != 0:
            first = _first(event, events)
            stop(workers)
            _say(_message(first, workers))
            return first.code if first.code > 0 else 128 - first.code
    return 0


def stop(workers: Sequence[Worker]) -> None:
    """Ends all workers and what they have started: SIGTERM, and SIGKILL for what is left."""
    for worker in workers:
        worker.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        worker.signal(signal.SIGKILL)
    for worker in workers:
        worker.process.wait()
        worker.join(2)


def _to_group(group: int, number: signal.Signals) -> None:
    # macOS answers EPERM for a group of which only an unreaped leader is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _first(end: End, events: Events) -> End:
    """Of the ends that come in together, the one that the others follow from."""
    ends, deadline = [end], time.monotonic() + BLAME_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            event = events.get(timeout=left)
            if isinstance(event, End) and event.code != 0:
                ends.append(event)
    # JAX aborts whoever has lost a peer.
    return min(ends, key=lambda end: (end.code == -signal.SIGABRT, end.time))


def _message(end: End, workers: Sequence[Worker]) -> str:
    """What the user reads when a worker has failed."""
    how = f"exited with code {end.code}"
    if end.code < 0:
        how = f"was killed by {signal.Signals(-end.code).name}"
        if end.code == -signal.SIGKILL:
            how += " (by hand, or by the system when memory ran out)"
    who = f"process {end.worker.name}" + (f" of {len(workers)}" if len(workers) > 1 else "")
    others = "; the others were stopped" if len(workers) > 1 else ""
    if not end.worker.last:
        return f"launch: {who} {how}{others}. It wrote nothing on standard error"
    wrote = "".join(f"\n    {line}" for line in end.worker.last)
    return f"launch: {who} {how}{others}. Its last lines on standard error:{wrote}"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _count(workers: Sequence[Worker]) -> str:
    return "its process was" if len(workers) == 1 else f"its {len(workers)} processes were"


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux, what a child does first so that it dies with the launcher, even by SIGKILL."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # It has died in between.
            os._exit(1)

    return bind
