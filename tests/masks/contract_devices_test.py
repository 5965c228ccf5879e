"""Several devices: workers under `shard_map`, and parameters that live in pieces."""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = (
    "replicated:grow_and_prune",
    "parallel",
    "auto:grow_and_prune",
    "auto:rigl",
    "explicit:grow_and_prune",
)


def test_on_four_devices():
    """In one process, since the number of devices is fixed when JAX starts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-m", "tests.masks.four_devices", *CHECKS],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [f"passed {each}" for each in CHECKS]
