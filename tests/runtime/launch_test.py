import contextlib
import json
import os
import re
import signal
import socket
import sys
import time

import pytest

from configs import digits
from experiments import launch
from sparsetrain.training import progress, train_and_evaluate
from tests.runtime.conftest import SECONDS, gone, living

LAUNCH = ("-m", "experiments.launch")

# Costs no import of JAX. Its child is in its group.
PROGRAM = """
import os, signal, subprocess, sys, time
what, who = sys.argv[1:]
mine = os.environ["JAX_PROCESS_ID"] == who
if what == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what != "fine":
    subprocess.Popen(["sleep", "100"])
print("pid", os.getpid(), flush=True)
print("to error", file=sys.stderr, flush=True)
if mine and what == "code":
    sys.exit(7)
if what == "fine":
    sys.stdout.write("no line break")
    sys.exit()
for _ in range(1000):
    time.sleep(0.1)
    if what == "chatty":
        print("more", flush=True)
"""


@pytest.fixture
def program(tmp_path, start):
    """Launches PROGRAM in two processes."""
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))

    def call(*arguments):
        flags = ("--processes=2", "--module=program", "--", *arguments)
        return start(*LAUNCH, *flags, PYTHONPATH=path)

    return call


# Groups of the workers of a test, which a launcher that fails the test may leave behind.
seen = []


@pytest.fixture(autouse=True)
def leave_none():
    yield
    while seen:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(seen.pop(), signal.SIGKILL)


def pids(process, count):
    """Waits until some processes have printed theirs, which are the numbers of their groups too."""
    found = {}
    deadline = time.monotonic() + SECONDS
    while len(found) < count and time.monotonic() < deadline:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        if label := re.match(r"\[(\d)\] pid (\d+)", line):
            found[int(label[1])] = int(label[2])
            seen.append(int(label[2]))
    return [found[index] for index in range(count)]


def ended(process):
    """What is left of its output, when it has ended in time."""
    output, error = process.communicate(timeout=SECONDS)
    return process.returncode, output, error


def test_lines_come_out_under_their_number(program):
    code, output, error = ended(program("fine", "0"))
    assert code == 0
    assert sorted(re.sub(r"pid \d+", "pid", output).splitlines()) == [
        "[0] no line break", "[0] pid", "[1] no line break", "[1] pid"
    ]  # fmt: skip
    assert sorted(error.splitlines()) == ["[0] to error", "[1] to error"]


def test_one_that_fails_ends_all_with_one_message(program):
    process = program("code", "1")
    groups = pids(process, 2)
    code, _, error = ended(process)
    assert code == 7
    assert error.splitlines()[-2:] == [
        "launch: process 1 of 2 exited with code 7; the others were stopped. "
        "Its last lines on standard error:",
        "    to error",
    ]
    assert error.count("launch:") == 1
    assert all(map(gone, groups))


@pytest.mark.parametrize(
    ("what", "number"),
    [("sleep", signal.SIGTERM), ("sleep", signal.SIGHUP), ("stubborn", signal.SIGINT)],
)
def test_an_interrupted_launcher_leaves_no_process(program, what, number):
    process = program(what, "0")
    groups = pids(process, 2)
    process.send_signal(number)
    code, _, error = ended(process)
    assert code == 128 + number
    assert error.splitlines()[-1] == f"launch: ended by {number.name}; its 2 processes were stopped"
    assert all(map(gone, groups))


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_killed_launcher_takes_its_processes_along(program):
    process = program("sleep", "0")
    groups = pids(process, 2)
    process.kill()
    process.wait(SECONDS)
    # Not what these have started; nobody is left to do that.
    deadline = time.monotonic() + 10
    while any(pid in living(pid) for pid in groups):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_reader_that_leaves_ends_all(program):
    process = program("chatty", "0")
    groups = pids(process, 2)
    process.stdout.close()
    assert process.wait(SECONDS) == 128 + signal.SIGPIPE
    process.stdout = None
    assert all(map(gone, groups))


def test_a_worker_killed_in_a_round_is_named_within_a_minute(start):
    process = start(*LAUNCH, "--processes=3", "--module=tests.runtime.rounds", "--", "rounds", 0)
    groups = pids(process, 3)
    begin = time.monotonic()
    os.kill(groups[1], signal.SIGKILL)
    code, _, error = ended(process)
    assert time.monotonic() - begin < 60
    assert code == 128 + signal.SIGKILL
    messages = [line for line in error.splitlines() if line.startswith("launch:")]
    assert messages == [
        "launch: process 1 of 3 was killed by SIGKILL (by hand, or by the system when memory ran out); "
        "the others were stopped. It wrote nothing on standard error"
    ]
    assert all(map(gone, groups))


def test_two_processes_train_as_two_simulated_workers_and_one_writes(start, tmp_path):
    # Small and dense: both compile all of it.
    overrides = {
        "epochs": 1,
        "angle_examples": 0,
        "model.hidden": "(16,)",
        "backward.rule": "dense",
        "compress.name": "top_k",
    }
    flags = [f"--config.{name}={value}" for name, value in overrides.items()]
    flags = ["--config=configs/digits.py", f"--workdir={tmp_path}", *flags]
    code, output, error = ended(
        start(*LAUNCH, "--processes=2", "--", *flags, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    )
    assert code == 0, error
    assert re.search(r"^\[0\] test accuracy", output, re.MULTILINE)
    assert not re.search(r"^\[1\] (?!\[Gloo\])", output, re.MULTILINE)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    simulated = digits.get_config()
    simulated.update_from_flattened_dict(overrides | {"model.hidden": (16,), "workers": 2})
    here = train_and_evaluate(simulated, tmp_path / "simulated", progress.Silent()).summary
    same = ("steps", "train_loss", "test_accuracy", "bits_sent", "wire_bytes", "moved_bytes")
    assert [summary[name] for name in same] == pytest.approx([here[name] for name in same])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(summary["steps"])]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "one of the arguments --processes --cluster is required"),
        (["--processes=0"], "--processes=0: must be at least 1"),
        (["--processes=2", "--cluster"], "not allowed with"),
        (["--processes=2", "--config=x"], "put the program's own arguments behind --"),
    ],
)
def test_wrong_flags_are_one_sentence(capsys, flags, sentence):
    with pytest.raises(SystemExit):
        launch.parse(flags)
    assert sentence in capsys.readouterr().err


def test_what_follows_the_dashes_is_the_programs():
    options = launch.parse(["--cluster", "--", "--config=a", "--", "b"])
    assert (options.cluster, options.processes) == ("auto", None)
    assert options.arguments == ["--config=a", "--", "b"]


def test_each_process_of_an_accelerator_has_its_own_device():
    assert [place["JAX_LOCAL_DEVICE_IDS"] for _, place in launch.local(2, "cuda")] == ["0", "1"]
    assert all("JAX_LOCAL_DEVICE_IDS" not in place for _, place in launch.local(2, "cpu"))


def test_on_a_cluster_the_launchers_of_all_tasks_find_one_another(start):
    # What `srun` sets; JAX makes the port of the job's number.
    job = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
    }
    flags = ("--cluster", "--module=tests.runtime.rounds", "--", "sum", 0)
    tasks = [
        start(*LAUNCH, *flags, **job, SLURM_PROCID=str(index), SLURM_LOCALID=str(index))
        for index in range(2)
    ]
    for task in tasks:
        code, output, error = ended(task)
        assert code == 0, error
        assert f"[{socket.gethostname()}] sum 3.0" in output
