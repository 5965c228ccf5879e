"""One run to one result file: never a partial one, never a finished one again."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.gap_fashion_mnist import methods
from experiments.gap_fashion_mnist.methods import AXIS
from experiments.gap_fashion_mnist.runs import Run
from experiments.grid import write_once
from sparsetrain import data, masks

BATCH = 100


def load() -> data.Dataset:
    """Fashion-MNIST with its last 5,000 training images held out."""
    return data.load("fashion-mnist")


def record(run: Run, out: Path, load: Callable[[], data.Dataset] = load) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      load: gives the data; the tests take fewer.

    Returns:
      Whether there was something to do.
    """
    return write_once(run, out, lambda: train(run, load()))


def loss(network: str, params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean cross-entropy of a batch."""
    logits = methods.NETWORKS[network]().apply({"params": params}, batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


@functools.lru_cache(maxsize=1)  # Seeds of a cell follow one another.
def programs(run: Run, steps: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(epoch, end of a round) of a run, compiled once for all seeds of a cell."""
    tx = methods.build(run, steps, jax.random.key(run.seed), scores=0)

    def step(
        carry: tuple[Any, Any], batch: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[Any, Any], jax.Array]:
        params, state = carry
        value, grads = jax.value_and_grad(functools.partial(loss, run.network))(params, batch)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    def epoch(params: Any, state: Any, images: Any, labels: Any, seen: Any) -> Any:
        def at(carry: Any, places: jax.Array) -> Any:
            return step(carry, (images[places], labels[places]))

        (params, state), losses = lax.scan(at, (params, state), seen)
        return params, state, jnp.mean(losses)

    if run.network == "conv":
        # On a CPU a convolution inside a loop is 10 times slower than outside.
        once = jax.jit(step, donate_argnums=0)

        def by_steps(params: Any, state: Any, images: Any, labels: Any, seen: Any) -> Any:
            carry, losses = (params, state), []
            for places in np.asarray(seen):
                carry, value = once(carry, (images[places], labels[places]))
                losses.append(value)
            return *carry, jnp.mean(jnp.stack(losses))

        return by_steps, lambda params, state: (params, state)
    if run.method != "P-GaP":
        return jax.jit(epoch, donate_argnums=(0, 1)), lambda params, state: (params, state)

    def together(params: Any, state: Any) -> Any:
        return masks.combine(params, state, methods.partitions(run), AXIS)

    over = jax.vmap(epoch, in_axes=(0, 0, None, None, 0), axis_name=AXIS)
    return jax.jit(over, donate_argnums=(0, 1)), jax.jit(jax.vmap(together, axis_name=AXIS))


def train(run: Run, dataset: data.Dataset) -> dict[str, Any]:
    """Curves, and test accuracy at the end and at the best validation accuracy while sparse.

    Args:
      run: what to train.
      dataset: images and labels.

    Returns:
      The fields of a result file that are measured.
    """
    splits = [
        (jnp.asarray(images, jnp.float32) / 255, jnp.asarray(labels)) for images, labels in dataset
    ]
    images, labels = splits[0]
    steps = len(labels) // BATCH
    starts, order, draw = jax.random.split(jax.random.key(run.seed), 3)
    params = methods.initial(run, starts, images)
    scores = None
    if run.method == "SNIP":
        first = (images[:BATCH], labels[:BATCH])
        scores = masks.snip_scores(functools.partial(loss, run.network), params, first)
    tx = methods.build(run, steps, draw, scores)
    # Only what an update draws or schedules by its seed needs a program of its own.
    is_own = run.method in methods.DRAWS or run.order == "random"
    epoch, end_round = programs(run if is_own else dataclasses.replace(run, seed=0), steps)
    state = tx.init(params)
    if run.method != "dense":
        params = masks.apply(params, state)
    workers = run.kappa if run.method == "P-GaP" else 0
    if workers:
        params, state = (
            jax.tree.map(lambda leaf: jnp.stack([leaf] * workers), each) for each in (params, state)
        )
    params, state = jax.tree.map(jnp.copy, (params, state))
    accuracy = jax.jit(functools.partial(_accuracy, run.network))
    curves: dict[str, list[float]] = {"epoch": [], "loss": [], "validation": [], "density": []}
    best, passes, number = (-1.0, float("nan"), 0), 0, 0
    count, each = run.phases if workers else (0, 1)
    test = float("nan")
    while passes < run.epochs:
        is_alone = workers and number >= count * each
        if is_alone and workers > 1:
            # All are equal after the last round: one goes on.
            params, state = jax.tree.map(lambda leaf: leaf[:1], (params, state))
            workers = 1
        keys = [
            jax.random.fold_in(jax.random.fold_in(order, number), w) for w in range(workers or 1)
        ]
        seen = jnp.stack([_places(key, len(labels), steps) for key in keys])
        params, state, value = epoch(params, state, images, labels, seen if workers else seen[0])
        number += 1
        passes += workers or 1
        if workers > 1 and number % each == 0:
            params, state = end_round(params, state)
        held = jax.tree.map(lambda leaf: leaf[0], (params, state)) if workers else (params, state)
        density = masks.report(held[1]).get("density", 1.0)
        found = float(accuracy(held[0], *splits[1]))
        is_final = workers <= 1 and abs(density - (1 - run.sparsity)) < 0.005
        test = float(accuracy(held[0], *splits[2]))
        if is_final and found > best[0]:
            best = (found, test, passes)
        for name, item in zip(
            curves, (passes, float(jnp.mean(value)), found, density), strict=True
        ):
            curves[name].append(item)
    return {
        "curves": curves,
        "final_density": curves["density"][-1],
        "test_accuracy": test,
        "test_accuracy_at_best": best[1],
        "best_epoch": best[2],
    }


def _places(key: Any, examples: int, steps: int) -> jax.Array:
    return jax.random.permutation(key, examples)[: steps * BATCH].reshape(steps, BATCH)


def _accuracy(network: str, params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits: Any = methods.NETWORKS[network]().apply({"params": params}, images)
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)
