"""What `messages_test.py` trains, in its own process and, run as a module, in one of several."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import compress, runtime
from sparsetrain.runtime.byte_gather import gather_bytes

SHAPES = {"kernel": (24, 10), "bias": (10,)}
BATCH = 2


def loss(params, batch):
    x, y = batch
    return jnp.mean((x @ params["kernel"] + params.get("bias", jnp.zeros(10))[None] - y) ** 2)


def begin(name):
    """Parameters; two tensors for what two processes train, one where that is compiled for itself."""
    rng = np.random.default_rng(7)
    shapes = SHAPES if name in TOGETHER else {"kernel": SHAPES["kernel"]}
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def batches(workers, steps):
    """For each step those of all workers, one after the other."""
    rng = np.random.default_rng(8)
    shapes = ((workers * BATCH, 24), (workers * BATCH, 10))
    for _ in range(steps):
        yield tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def local(inner, every, compressor, *args, **options):
    return compress.local_steps(inner, every, compressor, *args, **options, axis_name="workers")


# Name -> (transformation, steps).
METHODS = {
    "sbc 1": lambda: (
        local(
            optax.sgd(1e-2),
            1,
            compress.sparse_binary(0.1),
            optax.sgd(0.7, momentum=0.9, nesterov=True),
        ),
        4,
    ),
    "sbc 10": lambda: (
        local(optax.sgd(1e-2, 0.9), 10, compress.sparse_binary(0.1), momentum_masking="first"),
        25,
    ),
    "sbc 100": lambda: (local(optax.sgd(1e-2, 0.9), 100, compress.sparse_binary(0.1)), 205),
    "fedavg": lambda: (local(optax.sgd(1e-2, 0.9), 3, compress.top_k(1.0)), 9),
    "nothing": lambda: (local(optax.sgd(1e-2), 2, compress.hard_threshold(1e9)), 4),
    "stc": lambda: (compress.stc(0.1, optax.sgd(1e-2), every=2, axis_name="workers"), 8),
}


WORKERS = {"sbc 1": 2, "sbc 10": 2, "sbc 100": 3, "fedavg": 3, "nothing": 2, "stc": 4}
# What two processes train, with a worker in each, or two.
TOGETHER = ("sbc 10", "nothing", "stc")


class Recorder:
    """Carries messages and keeps them."""

    def __init__(self):
        self.rounds = []

    def __call__(self, messages):
        gathered = gather_bytes(messages)
        self.rounds.append(gathered)
        return gathered


def start(name, **options):
    """What trains with one of the methods."""
    return runtime.message_training(loss, METHODS[name]()[0], WORKERS[name], **options)


def train(name, run):
    """This process's workers after all steps, with its rows of every batch."""
    workers, steps = WORKERS[name], METHODS[name]()[1]
    own = workers * BATCH // jax.process_count()
    first = own * jax.process_index()
    trained = run.init(begin(name))
    for batch in batches(workers, steps):
        rows = jax.tree.map(lambda leaf: leaf[first : first + own], batch)
        trained, _ = run.step(trained, run.place(rows))
    return trained


def main(number, port, folder):
    """One process of two, with two devices each."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(number))
    assert (jax.process_count(), jax.local_device_count()) == (2, 2)
    for name in TOGETHER:
        trained = train(name, start(name))
        np.savez(f"{folder}/{name}-{number}.npz", *jax.tree.leaves(trained))


if __name__ == "__main__":
    main(*sys.argv[1:])
