"""Processes that a test starts, and the proof that it left none."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# No statement about us, who are done in seconds: others may have the cores. What must be fast is timed by itself.
SECONDS = 240


def living(group):
    """Processes of a group that have not ended; one that nobody has waited for yet has."""
    found = []
    for line in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, rest = line.read_text().partition(" (")
            state, _, its_group = rest.rpartition(") ")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(int(number))
    return found


def gone(group, seconds=10):
    """Whether a group is empty, or becomes so in time."""
    deadline = time.monotonic() + seconds
    while living(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def children(process):
    """Numbers of the processes that one has started, the oldest first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, rest = stat.read_text().partition(" (")
            if int(rest.rpartition(") ")[2].split()[1]) == process.pid:
                found.append(int(number))
    return sorted(found)


@pytest.fixture
def start():
    """Starts a Python module in a group of its own; kills all of them at the end of the test."""
    started = []

    def call(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    # A background job of a shell ignores these, and what it starts would too.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
