"""The real Flower simulation, in a process of its own; skipped where Flower is not installed (extra `federated`)."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 90  # seconds
MARK = "SPARSETRAIN_TEST_MARK"

needs_flower = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None or importlib.util.find_spec("ray") is None,
    reason="needs Flower: pip install 'sparsetrain[federated]'",
)

PROGRAM = """
import json, logging, sys
import jax, numpy as np
from experiments.flower import app, rounds, runs
from experiments.flower.problem import load

def each(run, train):
    found, plain = train(), rounds.follow(run, load(run.data))
    pairs = zip(*(jax.tree.leaves(course.server.weights) for course in (found, plain)), strict=True)
    far = max(float(np.abs(a - b).max()) for a, b in pairs)
    told.append({"far": far, "flower": found.curves, "plain": plain.curves})

if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.ERROR)
    told = []
    app.simulate([runs.Run(**settings) for settings in json.loads(sys.argv[1])], each, processes=1)
    print("told", json.dumps(told))
"""


def living(mark):
    """Process -> command, of those that a test has started. One that waits for nothing but its parent has ended."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            started_here = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if started_here and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # It has gone, or belongs to somebody else.
            continue
    return found


@pytest.fixture
def temporary():
    """A folder with a short name: those of the sockets in it may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="st_", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@needs_flower
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
@pytest.mark.timeout(LIMIT + 30)
def test_flower_comes_to_what_the_plain_loop_comes_to_and_leaves_nothing_behind(
    tmp_path, temporary
):
    mark = uuid.uuid4().hex
    common = {"rounds": 3, "clients": 4, "fraction": 0.75, "steps": 2}
    wanted = [
        {"method": "stc_1", "alpha": 0.5, "dropout": 0.5, "seed": 3, **common},
        {"method": "fedavg", "alpha": None, "dropout": 0.0, "seed": 0, **common},
    ]
    program = tmp_path / "by_flower.py"
    program.write_text(PROGRAM)
    environment = os.environ | {
        MARK: mark,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "HOME": str(temporary),
        "FLWR_TELEMETRY_ENABLED": "1",  # The app switches it off.
        "JAX_PLATFORMS": "cpu",
        # What the clients compile, the plain loop needs not.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, str(program), json.dumps(wanted)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        # Ray's own need a moment to see that they are alone.
        deadline = time.monotonic() + 10
        while (left := living(mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for process in living(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not left
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("told "))
    told = json.loads(line.removeprefix("told "))
    assert len(told) == 2
    for run in told:
        assert run["far"] < 1e-5
        for name, values in run["flower"].items():
            # An entry at the edge of a selection may fall to the other side where sums differ in the last place.
            tolerance = 0.01 if name in ("bytes_up", "bytes_down", "test_accuracy") else 0
            assert values == pytest.approx(run["plain"][name], rel=tolerance, abs=tolerance)
    some_failed, all_answered = (run["flower"] for run in told)
    assert some_failed["heard"][-1] < some_failed["asked"][-1] == 9
    assert all_answered["heard"][-1] == all_answered["asked"][-1] == 9
    assert not list(temporary.iterdir())


def test_the_command_says_what_to_install_where_flower_is_not(tmp_path):
    hidden = "import sys; sys.modules['flwr'] = None; import experiments.flower.__main__ as m"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}; m.main(['--rounds=2', '--out={tmp_path}'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'sparsetrain[train,federated]', or give --engine=plain" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
