"""Jobs that are killed in the middle and started again, with as many processes or with others."""

import json
import os
import re
import shutil
import signal
import sys
import time

import jax
import numpy as np
import pytest

from configs import digits
from sparsetrain.training import progress, stages, train_and_evaluate
from tests.runtime.conftest import SECONDS, children, gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

# 19 steps an epoch with two workers, 9 with four: a checkpoint lies in the middle of a round of five.
OVERRIDES = {
    "epochs": 6,
    "checkpoint_every": 1,
    "angle_examples": 0,
    "steps_per_call": 4,
    "model.hidden": (),  # Half of what a process costs is the compiler.
    "backward.rule": "dense",
    "compress.name": "sparse_binary",
    "compress.density": 0.05,
    "compress.every": 5,
    "compress.momentum_masking": "first",
}


@pytest.fixture
def launch(start):
    """Starts processes on a folder."""

    def call(processes, workdir):
        flags = [f"--config.{name}={value}" for name, value in OVERRIDES.items()]
        return start(
            *("-m", "experiments.launch", f"--processes={processes}", "--"),
            *("--config=configs/digits.py", f"--workdir={workdir}", *flags),
            JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        )

    return call


def read(workdir, workers):
    """A run as a single process reads it, or goes on with it."""
    config = digits.get_config()
    config.update_from_flattened_dict(OVERRIDES | {"workers": workers})
    return train_and_evaluate(config, workdir, progress.Silent())


def end(process):
    """Waits for a launcher and for all that it has started."""
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, error


def kill_one(process, workdir, count):
    """SIGKILL to the last of some processes, once there is a checkpoint; how the launcher takes it."""
    deadline = time.monotonic() + SECONDS
    while not list(workdir.glob("checkpoints/[0-9]*/inventory.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    groups = children(process)
    assert len(groups) == count
    begin = time.monotonic()
    os.kill(groups[-1], signal.SIGKILL)
    _, error = process.communicate(timeout=SECONDS)
    assert time.monotonic() - begin < 60
    assert process.returncode == 128 + signal.SIGKILL
    (message,) = [line for line in error.splitlines() if line.startswith("launch:")]
    assert message.startswith(f"launch: process {count - 1} of {count} was killed by SIGKILL")
    assert all(map(gone, groups))
    assert not (workdir / "summary.json").exists()


def without_time(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "seconds_per_step"} for x in lines]


def test_killed_in_a_round_and_started_again_it_ends_bit_identical(launch, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    end(launch(2, whole))
    kill_one(launch(2, cut), cut, 2)
    reached = max(int(path.name) for path in cut.glob("checkpoints/[0-9]*"))
    again = launch(2, cut)
    output, error = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, error
    assert re.search(rf"^\[0\].* step {reached} of 114", output, re.MULTILINE), output
    assert without_time(cut) == without_time(whole)
    expected, found = read(whole, 2).state, read(cut, 2).state
    for a, b in zip(jax.tree.leaves(expected[:3]), jax.tree.leaves(found[:3]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert stages.read(cut) == [(0, 0, 2)]


def test_killed_with_four_processes_it_goes_on_with_two_as_simulated_workers_do(launch, tmp_path):
    real, simulated = tmp_path / "real", tmp_path / "simulated"
    kill_one(launch(4, real), real, 4)
    shutil.copytree(real, simulated)
    before = without_time(real)
    end(launch(2, real))
    whole = read(simulated, 2)
    first, second = stages.read(real)
    assert (first, second.workers) == ((0, 0, 4), 2) and second.step == 9 * second.epoch > 0
    assert stages.read(simulated) == [first, second]
    after = without_time(real)
    assert after[: second.epoch] == before[: second.epoch]
    assert [line["epoch"] for line in after] == list(range(1, 7))
    assert after[-1]["step"] == second.step + 19 * (6 - second.epoch)
    assert after[-1]["train_loss"] < after[second.epoch - 1]["train_loss"]
    for here, there in zip(after, whole.history, strict=True):
        assert here["bits_sent"] == pytest.approx(there["bits_sent"], rel=1e-3)
        assert here["train_loss"] == pytest.approx(there["train_loss"], rel=1e-3)
