"""A program of several processes, for `processes_test.py` and `launch_test.py`.

python -m tests.runtime.rounds <what> <process that does it> [folder]
"""

import os
import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import runtime

# Of rounds, or of a silence, that nobody ends: longer than any test waits.
SECONDS = 150


def workers():
    return jax.make_mesh((jax.device_count(),), ("workers",), axis_types=(AxisType.Auto,))


def total(number):
    """The sum of a number over all processes."""
    mesh, share = workers(), np.full(1, number, np.float32)
    add = jax.shard_map(
        lambda x: jax.lax.psum(x, "workers"), mesh=mesh, in_specs=P("workers"), out_specs=P()
    )
    rows = NamedSharding(mesh, P("workers"))
    found = jax.jit(add)(jax.make_array_from_process_local_data(rows, share))
    return float(found.addressable_data(0)[0])


def rounds(job, what, mine):
    end = time.monotonic() + SECONDS
    turn = 0
    while time.monotonic() < end:
        turn += 1
        assert total(turn) == turn * job.count
        if turn == 5:
            print("pid", os.getpid(), flush=True)
        if turn == 10 and mine and what == "raise":
            raise ValueError("bad luck")
        if turn == 10 and mine and what == "exit":
            sys.exit("one sentence")


def checkpoints(job, folder):
    """Saves twice, damages the second, and restores; one leaf is shared, one in shards."""
    from sparsetrain.training.checkpoint import Checkpoints
    from sparsetrain.training.state import TrainState

    same, rows = (NamedSharding(workers(), spec) for spec in (P(), P("workers")))
    place = TrainState(same, {"params": same}, {"residual": rows}, same)

    def create(step):
        residual = jnp.arange(4.0).reshape(2, 2) + step
        return TrainState(
            step, {"params": jnp.ones(3) * step}, {"residual": residual}, jax.random.key(0)
        )

    saver = Checkpoints(folder)
    for step in (1, 2):
        saver.save(jax.jit(create, out_shardings=place)(jnp.int32(step)))
    saver.close()
    runtime.check_agreement({"saved": 2})
    if job.index == 0:
        for path in (folder / "2").rglob("ocdbt.process_1/d/*"):
            path.write_bytes(path.read_bytes()[:-1])
    runtime.check_agreement({"damaged": 2})
    abstract = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        jax.eval_shape(create, jnp.int32(0)),
        place,
    )
    notes = []
    state = Checkpoints(folder).restore(abstract, notes.append)
    assert len(notes) == 1 and not (folder / "2").exists()
    np.testing.assert_array_equal(state.variables["params"], np.ones(3))
    residual = state.opt_state["residual"]
    assert residual.sharding.is_equivalent_to(rows, 2)
    mine = np.arange(4.0).reshape(2, 2)[job.index] + 1
    np.testing.assert_array_equal(residual.addressable_data(0)[0], mine)
    print("restored", int(state.step), notes[0] if job.index == 0 else "", flush=True)


def main(what, who, folder="."):
    with runtime.start() as job:
        mine = job.index == int(who)
        facts = runtime.versions() | {"config.seed": 0}
        if what == "differ" and mine:
            facts |= {"numpy": "1.0", "config.seed": 1}
        if what == "silent" and mine:
            time.sleep(SECONDS)
        if what == "dead" and mine:
            os.kill(os.getpid(), signal.SIGKILL)
        runtime.check_agreement(facts, seconds=2 if what == "silent" else 40)
        print("sum", total(job.index + 1), flush=True)
        if what in ("raise", "exit", "rounds"):
            rounds(job, what, mine)
        if what == "checkpoints":
            checkpoints(job, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
