"""What `messages_test.py` trains, in its own process and, run as a module, in one of several."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import compress, runtime

SHAPES = {"kernel": (24, 10), "bias": (10,)}
BATCH = 2


def loss(params, batch):
    x, y = batch
    return jnp.mean((x @ params["kernel"] + params["bias"][None] - y) ** 2)


def begin():
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


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
    "sbc 1": lambda: (local(optax.adam(1e-2), 1, compress.sparse_binary(0.1)), 4),
    "sbc 10": lambda: (
        local(optax.sgd(1e-2, 0.9), 10, compress.sparse_binary(0.1), momentum_masking="first"),
        25,
    ),
    "sbc 100": lambda: (local(optax.sgd(1e-2, 0.9), 100, compress.sparse_binary(0.1)), 205),
    "fedavg": lambda: (local(optax.sgd(1e-2, 0.9), 3, compress.top_k(1.0)), 9),
    "diloco": lambda: (
        local(
            optax.adam(1e-2),
            3,
            compress.top_k(0.2),
            optax.sgd(0.7, momentum=0.9, nesterov=True),
        ),
        9,
    ),
    "stc": lambda: (compress.stc(0.1, optax.sgd(1e-2), every=2, axis_name="workers"), 8),
}


# What several processes train: name and number of workers, one in each or two.
TOGETHER = (("sbc 10", 2), ("stc", 4))


def train(name, workers, **options):
    """(run, trained) after all steps, with this process's rows of every batch."""
    tx, steps = METHODS[name]()
    run = runtime.message_training(loss, tx, workers, **options)
    own = workers * BATCH // jax.process_count()
    first = own * jax.process_index()
    trained = run.init(begin())
    for batch in batches(workers, steps):
        rows = jax.tree.map(lambda leaf: leaf[first : first + own], batch)
        trained, _ = run.step(trained, run.place(rows))
    return run, trained


def main(number, port, folder):
    """One process of two, with two devices each."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(number))
    assert (jax.process_count(), jax.local_device_count()) == (2, 2)
    for name, workers in TOGETHER:
        _, trained = train(name, workers)
        np.savez(f"{folder}/{name}-{workers}-{number}.npz", *jax.tree.leaves(trained))


if __name__ == "__main__":
    main(*sys.argv[1:])
