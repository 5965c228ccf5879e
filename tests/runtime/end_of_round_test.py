"""P-GaP on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks, runtime
from tests.devices import run_on_four
from tests.runtime.conftest import SECONDS
from tests.runtime.four_partitions import CHECKS


@pytest.fixture(scope="module")
def printed():
    """What the checks say."""
    # Compiled fast and run slowly: nothing here runs long.
    done = run_on_four("tests.runtime.four_partitions", flags="--xla_backend_optimization_level=0")
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_on_four_devices(printed, name):
    assert f"passed: {name}\n" in printed, printed[-3000:]


def test_in_two_processes(start):
    flags = ("--processes=2", "--module=tests.runtime.four_partitions", "--")
    job = start("-m", "experiments.launch", *flags, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    output, error = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, error
    for number in range(2):
        assert f"[{number}] passed: a process a partition\n" in output


def test_before_init_and_a_wrong_number_of_partitions():
    tx = masks.grow_and_prune(
        optax.sgd(1.0),
        0.5,
        masks.partitions({"all": r".*"}),
        steps_per_phase=1,
        phases=1,
        key=jax.random.key(0),
        order="parallel",
        axis_name="workers",
    )
    mesh = runtime.worker_mesh(jax.devices()[:1])
    run = runtime.data_parallel(lambda w, x: jnp.sum(w["a"] * x), tx, mesh, apart=True)
    two = masks.partitions({"x": r"a", "y": r"b"})
    with pytest.raises(ValueError, match="call init"):
        runtime.end_of_round(run, two)
    trained = run.init({"a": np.ones((2, 2), np.float32)})
    with pytest.raises(ValueError, match="2 for 1 workers"):
        runtime.end_of_round(run, two)(trained)


def test_a_worker_keeps_its_variables():
    """Also without P-GaP: what a loss returns beside its value is the worker's own."""
    mesh = runtime.worker_mesh(jax.devices()[:1])

    def loss(params, variables, batch):
        return jnp.sum(params[None] * batch), {"count": variables["count"] + 1}

    run = runtime.data_parallel(loss, optax.sgd(1.0), mesh, apart=True)
    trained = run.init(np.zeros(2, np.float32), {"count": np.int32(3)})
    trained, _ = run.step(trained, run.place(np.ones((1, 2), np.float32)))
    assert trained.variables["count"].tolist() == [4]
