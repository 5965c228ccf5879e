"""Checks that need four devices: forced ones, in a process of their own, since JAX counts them when it starts."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_on_four(module, *arguments, flags=""):
    """Runs a module of the tests on four devices; `subprocess.CompletedProcess` with what it printed."""
    given = os.environ.get("XLA_FLAGS", "")
    flags = f"{given} --xla_force_host_platform_device_count=4 {flags}".strip()
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
