"""Several devices: workers under `shard_map`, and parameters that live in pieces."""

from tests.devices import run_on_four

CHECKS = (
    "replicated:grow_and_prune",
    "parallel",
    "auto:grow_and_prune",
    "auto:rigl",
    "explicit:grow_and_prune",
)


def test_on_four_devices():
    """In one process, since the number of devices is fixed when JAX starts."""
    done = run_on_four("tests.masks.four_devices", *CHECKS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [f"passed {each}" for each in CHECKS]
