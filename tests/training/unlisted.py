"""What `checkpoint_test.py` runs in a process of its own: damage to checkpoints that have no inventory.

Orbax then finds what it finds, and leaves reads behind that fail later in threads of its own.
"""

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain.training import inventory
from sparsetrain.training.checkpoint import Checkpoints
from sparsetrain.training.state import TrainState

HARMS = (
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
)


def create(step):
    kernel = jax.random.normal(jax.random.key(1), (30, 40)) + step
    return TrainState(step, {"params": kernel}, {"count": step}, jax.random.key(0))


def main(root):
    saver = Checkpoints(root / "two")
    for step in (1, 2):
        saver.save(create(jnp.int32(step)))
    (root / "two" / "2" / inventory.NAME).unlink()
    paths = [path.relative_to(root / "two") for path in sorted((root / "two" / "2").rglob("*"))]
    assert len(paths) > 10
    found = []
    for name in paths:
        harms = (shutil.rmtree,) if (root / "two" / name).is_dir() else HARMS
        for harm in harms:
            folder = shutil.copytree(root / "two", root / "copy")
            harm(folder / name)
            restored = Checkpoints(folder).restore(jax.eval_shape(create, jnp.int32(0)))
            step = int(restored.step)
            assert step in (1, 2)
            expected = create(jnp.int32(step))
            np.testing.assert_array_equal(
                restored.variables["params"], expected.variables["params"]
            )
            assert int(restored.opt_state["count"]) == step
            found.append(step)
            shutil.rmtree(folder)
    assert set(found) == {1, 2}  # Of some files orbax needs nothing.
    print("all", len(found), "are states that were saved")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
