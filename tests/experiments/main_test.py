import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import digits
from experiments import sent
from sparsetrain.training import progress, train_and_evaluate
from sparsetrain.training.metrics import read

ROOT = Path(__file__).parents[2]
CONFIG = "--config=configs/digits.py"


def command(*flags):
    return [sys.executable, "-m", "experiments.main", *map(str, flags)]


def run(*flags, **environment):
    return subprocess.run(
        command(*flags),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "--config is missing"),
        ([CONFIG], "--workdir is missing"),
        (
            [CONFIG, "--workdir={tmp}", "--config.backward.densitty=0.1"],
            "no field 'densitty', perhaps 'density'",
        ),
        ([CONFIG, "--workdir={tmp}", "--config.zzz=0.1"], "config has no field 'zzz'"),
        ([CONFIG, "--workdir={tmp}", "--config.epochs=many"], "--config.epochs=many"),
        ([CONFIG, "--workdir={tmp}", "--confg=3"], "flag 'confg'. Did you mean: config"),
        ([CONFIG, "--workdir={tmp}", "epochs=3"], "'epochs=3' is not a flag"),
        (["--config=configs/none.py", "--workdir={tmp}"], "configs/none.py"),
        ([CONFIG, "--workdir={tmp}", "--config.backward.density=4"], "density=4"),
        ([CONFIG, "--workdir={tmp}", "--config.backward.rule=topk"], "choose one of dense"),
        (
            [CONFIG, "--workdir={tmp}", "--config.compress.name=low_rank"],
            "compress.name='low_rank' needs compress.rank: add --config.compress.rank=<value>",
        ),
        (
            ["--config=configs/msbp_mnist.py", "--workdir={tmp}", "--config.data.path=/no/such"],
            "/no/such",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(tmp_path, flags, sentence):
    done = run(*(flag.format(tmp=tmp_path) for flag in flags))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("package", ["flax", "ml_collections", "orbax"])
def test_a_missing_extra_is_one_sentence_and_exit_code_1(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(
        f'raise ModuleNotFoundError("No module named {package!r}")\n'
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = run(CONFIG, f"--workdir={tmp_path}", PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"No module named {package!r}: "
        "install what training needs with  pip install 'sparsetrain[train]'"
    )


def test_a_compressor_with_its_own_argument_reports_what_it_sent(tmp_path):
    exchange = ["--config.compress.name=low_rank", "--config.compress.rank=2"]
    flags = [CONFIG, f"--workdir={tmp_path}", "--config.epochs=1", *exchange]
    done = run(*flags, "--config.angle_examples=0")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    last = done.stdout.splitlines()[-1]
    assert last == sent.sentence(summary)
    assert f"({summary['bits_sent']:,})" in last
    assert f"({summary['wire_bytes']:,}) on the wire" in last
    assert f"({summary['dense_bits']:,}) if dense" in last
    assert f"compression ratio {summary['dense_bits'] / summary['bits_sent']:,.1f}" in last


OVERRIDES = {"epochs": 40, "checkpoint_every": 1, "angle_examples": 0}


def start(workdir):
    overrides = (f"--config.{name}={value}" for name, value in OVERRIDES.items())
    return subprocess.Popen(
        command(CONFIG, f"--workdir={workdir}", *overrides),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_when(process, condition, seconds=120):
    """SIGKILL, which no program can catch, as soon as the condition holds."""
    try:
        deadline = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "the run never got there"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def checkpoints(workdir):
    with contextlib.suppress(FileNotFoundError):
        return [
            int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()
        ]
    return []


@pytest.mark.usefixtures("optimised")  # As in the processes that are killed.
def test_killed_twice_and_restarted_it_ends_bit_identical(tmp_path):
    config = digits.get_config()
    config.update(OVERRIDES)
    whole = train_and_evaluate(config, tmp_path / "whole", progress.Silent())
    workdir = tmp_path / "killed"

    kill_when(start(workdir), lambda: (workdir / "config.json").exists())
    assert checkpoints(workdir) == []

    kill_when(start(workdir), lambda: len(checkpoints(workdir)) >= 2)
    reached = max(checkpoints(workdir))
    assert 0 < reached < whole.summary["steps"]
    assert not (workdir / "summary.json").exists()

    last = start(workdir)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output
    assert f"step {reached} of {whole.summary['steps']}" in output
    assert "compression" not in output  # Nothing was sent.

    # Reading a finished run back only restores its last checkpoint.
    ended = train_and_evaluate(config, workdir, progress.Silent())
    for x, y in zip(
        jax.tree.leaves(ended.state._replace(key=None)),
        jax.tree.leaves(whole.state._replace(key=None)),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)
    assert [record["step"] for record in read(workdir / "metrics.jsonl")] == [
        record["step"] for record in whole.history
    ]
    ended, whole = (
        [{k: v for k, v in record.items() if k != "seconds_per_step"} for record in result.history]
        for result in (ended, whole)
    )
    assert ended == whole
    assert json.loads((workdir / "summary.json").read_text())["epochs"] == OVERRIDES["epochs"]
