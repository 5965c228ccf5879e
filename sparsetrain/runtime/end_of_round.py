"""P-GaP on devices: each partition has its workers, and at the end of a round every part comes from its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import masks
from sparsetrain.masks.partition import Partitions
from sparsetrain.runtime.data_parallel import DataParallel, Trained


def end_of_round(run: DataParallel, partitions: Partitions) -> Callable[[Trained], Trained]:
    """What all workers do when a round of P-GaP is over: they put their partitions together.

        Theta_i, m_i, moments_i, statistics_i <- those of the workers of partition i

    Worker i has partition i; on a mesh of `worker_mesh(partitions=kappa)` all workers (., i) have, and
    exchange their gradients over "workers". Their parameters are then alike; their statistics are not,
    since each sees batches of its own, and the mean of them is taken.

    Args:
      run: of `data_parallel(..., apart=True)`, after `init`, whose optimizer is
        `masks.grow_and_prune(..., order="parallel", axis_name=...)` over the axis "partition" if the
        mesh has one, else over the only one.
      partitions: those of the optimizer, as long as that axis; every path must belong to one, biases,
        norms and statistics too.

    Returns:
      A compiled function of `Trained`, which takes over what it is given; to be called after every
      `steps_per_phase` steps.

    Raises:
      ValueError: before `init`; when called, a leaf in no or several partitions, or another number of
        partitions than of workers.

    Differs from the paper:
      1. Running statistics come from their owner too; its code does not copy them.

    Reference: Ma et al., GaP (arXiv 2106.09857), Algorithm 2.

    Example:
      >>> import numpy as np, optax
      >>> from sparsetrain import masks, runtime
      >>> parts = masks.partitions({"all": r".*"})
      >>> tx = masks.grow_and_prune(optax.sgd(1.0), 0.5, parts, steps_per_phase=1, phases=1,
      ...                           key=jax.random.key(0), order="parallel", axis_name="workers")
      >>> mesh = runtime.worker_mesh(jax.devices()[:1])
      >>> run = runtime.data_parallel(lambda w, x: jnp.sum(w * x), tx, mesh, apart=True)
      >>> trained = run.init(jnp.zeros((2, 2)))
      >>> together = runtime.end_of_round(run, parts)
      >>> batch = run.place(np.array([[1.0, 2.0], [4.0, 3.0]], np.float32))
      >>> together(run.step(trained, batch)[0]).params.tolist()
      [[[0.0, 0.0], [-4.0, -3.0]]]
    """
    axis = "partition" if "partition" in run.names else run.names[-1]
    others = tuple(name for name in run.names if name != axis)

    def mean_of_others(leaf: jax.Array) -> jax.Array:
        is_mean = others and jnp.issubdtype(leaf.dtype, jnp.inexact)
        return lax.pmean(leaf, others) if is_mean else leaf

    def together(held: Trained) -> Trained:
        if not held.variables:
            params, state = masks.combine(held.params, held.opt_state, partitions, axis)
            return Trained(params, state, held.variables)
        collections: dict[str, Any] = {"params": held.params, **held.variables}
        whole, state = masks.combine(collections, held.opt_state, partitions, axis)
        variables = {name: whole[name] for name in held.variables}
        return Trained(whole["params"], state, jax.tree.map(mean_of_others, variables))

    return run.between_steps(together)
