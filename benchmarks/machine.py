"""What a measurement ran on."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def describe() -> dict[str, Any]:
    """Processor, accelerator, cores in use, versions.

    Example:
      >>> sorted(describe())[:4]
      ['accelerator', 'backend', 'cores_in_use', 'cores_of_machine']
    """
    return {
        "processor": _processor(),
        "cores_of_machine": os.cpu_count(),
        "cores_in_use": cores_in_use(),
        "backend": jax.default_backend(),
        "accelerator": jax.devices()[0].device_kind,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def cores_in_use() -> int:
    """Cores that this process may run on."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def use_cores(count: int) -> None:
    """Keeps this process, and threads yet to start, on the first cores it has.

    To be called before JAX starts its threads.

    Args:
      count: how many; 0 for all.

    Raises:
      ValueError: fewer than 0.
    """
    if count < 0:
        raise ValueError(f"cores={count}: give a number of cores, or 0 for all of them")
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
