"""The paper's own job, SBC of LeNet5 on MNIST with four clients, each in a process of its own."""

import gzip
import json

import jax
import numpy as np
import pytest

from configs import sbc_lenet_mnist
from sparsetrain.data import idx
from sparsetrain.training import progress, train_and_evaluate
from tests.runtime.conftest import SECONDS

# Convolutions inside a compiled loop are slow on a CPU, those of simulated workers most of all: 22 examples to
# train on, two steps an epoch, two exchanges.
TRAIN, TEST, STEPS = 24, 2, 4
OVERRIDES = {
    "epochs": 2,
    "eval_every": 2,
    "checkpoint_every": 2,
    "data.batch_size": 2,
    "compress.every": 2,
}


def cut(source, folder, name, count):
    """The first examples of an idx file, as an idx file."""
    numbers = idx.read(source / f"{name}.gz")[:count]
    sizes = b"".join(size.to_bytes(4, "big") for size in numbers.shape)
    head = bytes([0, 0, 8, numbers.ndim]) + sizes
    (folder / f"{name}.gz").write_bytes(gzip.compress(head + numbers.tobytes()))


@pytest.mark.needs_data("mnist")
def test_four_processes_train_as_four_simulated_workers(start, data_dir, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for split, count in (("train", TRAIN), ("t10k", TEST)):
        for name in (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"):
            cut(data_dir("mnist"), folder, name, count)
    overrides = OVERRIDES | {"data.path": str(folder)}
    flags = [f"--config.{name}={value}" for name, value in overrides.items()]
    job = start(
        *("-m", "experiments.launch", "--processes=4", "--"),
        *("--config=configs/sbc_lenet_mnist.py", f"--workdir={tmp_path / 'real'}", *flags),
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
    )
    config = sbc_lenet_mnist.get_config()
    config.update_from_flattened_dict(overrides)
    simulated = train_and_evaluate(config, tmp_path / "simulated", progress.Silent())
    _, error = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, error
    summary = json.loads((tmp_path / "real" / "summary.json").read_text())
    assert summary["steps"] == STEPS and summary["bits_sent"] > 0
    same = ("steps", "train_loss", "test_accuracy", "bits_sent", "wire_bytes", "moved_bytes")
    expected = [simulated.summary[name] for name in same]
    assert [summary[name] for name in same] == pytest.approx(expected, rel=1e-5)
    real = train_and_evaluate(config, tmp_path / "real", progress.Silent()).state  # Reads it back.
    for a, b in zip(
        jax.tree.leaves(real.variables), jax.tree.leaves(simulated.state.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
