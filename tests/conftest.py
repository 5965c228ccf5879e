"""Strictness for all tests and doctests, and the way to real data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

# A broadcast over unequal ranks is an error, in our code and in what it calls. Silent dtype
# promotion is not: optax computes `decay**count` with an int32 count, which strict mode refuses.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tests compile thousands of programs that run once. Without LLVM's dearer passes they take a third less; XLA's
# own, and so the programs that some tests read, stay the same. Doctests, notebooks and whole processes run optimised.
jax.config.update("jax_disable_most_optimizations", True)

# Nor through the emitters of fusions that are new in XLA, which take a quarter of the time of all compiling; later
# versions of JAX have no others, so the newest end of the support range tests them. XLA reads its flags when it starts,
# here; what a test starts as a process of its own finds them as they were.
if jax.__version_info__ < (0, 11):
    with pytest.MonkeyPatch.context() as patch:
        given = os.environ.get("XLA_FLAGS", "")
        patch.setenv("XLA_FLAGS", f"{given} --xla_cpu_use_fusion_emitters=false")
        jax.devices()

# The first example of a property compiles, which no deadline allows for.
hypothesis.settings.register_profile("jax", deadline=None)
hypothesis.settings.load_profile("jax")

# Read once, before a test may change it.
DATA = os.environ.get("SPARSETRAIN_DATA")


def find_data(name: str) -> Path:
    """Folder of a real data set; where it is absent, skips the test, or fails it if CI is set."""
    if DATA and (folder := Path(DATA) / name).is_dir():
        return folder
    reason = f"needs the folder {name} in $SPARSETRAIN_DATA, which is {DATA or 'not set'}"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(reason)
    pytest.fail(f"{reason}; with CI set a test may not skip for want of data", pytrace=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs_data"):
        find_data(*marker.args)


@pytest.fixture
def data_dir() -> Callable[[str], Path]:
    """Name of a real data set -> its folder."""
    return find_data


@pytest.fixture
def optimised() -> Iterator[None]:
    """For tests whose figures come from programs as users compile them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs() -> Iterator[None]:
    """Bounds memory: what one file compiles, no other runs again."""
    yield
    jax.clear_caches()
