"""A step on many workers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress, runtime
from tests.devices import run_on_four
from tests.runtime.four_devices import CHECKS


@pytest.fixture(scope="module")
def printed():
    """What the checks say."""
    # Compiled fast and run slowly: nothing here runs long.
    done = run_on_four("tests.runtime.four_devices", flags="--xla_backend_optimization_level=0")
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_on_four_devices(printed, name):
    assert f"passed: {name}\n" in printed, printed[-3000:]


def one_worker(tx, **options):
    mesh = runtime.worker_mesh(jax.devices()[:1])
    return runtime.data_parallel(lambda w, x: jnp.mean(x @ w), tx, mesh, **options)


def test_without_an_exchange_workers_would_drift_apart():
    with pytest.raises(ValueError, match=r"axis_name=\.\.\."):
        one_worker(optax.sgd(1.0)).init(jnp.zeros(2))
    run = one_worker(optax.sgd(1.0), apart=True)
    trained, _ = run.step(run.init(jnp.zeros(2)), run.place(np.ones((1, 2), np.float32)))
    assert trained.params.tolist() == [[-1.0, -1.0]]
    with pytest.raises(ValueError, match="local_steps"):
        run.params(trained)


def test_a_step_needs_init():
    run = one_worker(optax.sgd(1.0))
    with pytest.raises(ValueError, match="call init"):
        run.step(runtime.Trained({}, {}), ())


def test_what_differs_is_read_off_the_types():
    tx = optax.chain(compress.exchange(compress.top_k(0.5), axis_name="workers"), optax.adam(0.1))
    differs = one_worker(tx).differs(jnp.zeros(2))
    sent, (adam, _) = differs.opt_state[0], differs.opt_state[1]
    assert not differs.params and sent.memory.residual and sent.ledger.payload_bits.low
    assert not any(jax.tree.leaves(adam))


def test_one_program_and_donated_arrays():
    tx = optax.chain(compress.exchange(compress.top_k(0.5), axis_name="workers"), optax.adam(0.1))
    run = one_worker(tx)
    trained = run.init(jnp.zeros(2))
    for _ in range(3):
        before = trained
        trained, _ = run.step(trained, run.place(np.ones((1, 2), np.float32)))
    assert run._compiled._cache_size() == 1
    assert before.params.is_deleted() and before.opt_state[0].memory.residual.is_deleted()


def test_meshes():
    device = jax.devices()[:1]
    assert runtime.worker_mesh(device, partitions=1).axis_names == ("workers", "partition")
    with pytest.raises(ValueError, match="partitions=2"):
        runtime.worker_mesh(device, partitions=2)
