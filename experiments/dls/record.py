"""One run to one result file: never a partial one, never a finished one again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.dls.models import MODELS
from experiments.dls.runs import Run
from experiments.grid import write_once
from experiments.sbc_lenet_mnist import federated, tally
from experiments.sbc_lenet_mnist.record import batch, followed
from sparsetrain import data

REPETITIONS = 20


def record(run: Run, out: Path, load: Callable[[], data.Dataset] | None = None) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      load: gives the data; None for the model's own, the tests take fewer.

    Returns:
      Whether there was something to do.
    """
    return write_once(run, out, lambda: train(run, (load or MODELS[run.model].load)()))


def train(run: Run, dataset: data.Dataset) -> dict[str, Any]:
    """Curves, totals, and the time that a selection takes.

    Args:
      run: what to train.
      dataset: images and labels.

    Returns:
      The fields of a result file that are measured.
    """
    starts, order = jax.random.split(jax.random.key(run.seed))
    model = MODELS[run.model]
    params = model.init(starts)
    images, labels = map(jnp.asarray, dataset.train)
    seen = federated.batches(order, len(labels), run.clients, run.iterations, run.batch)
    test = tuple(map(jnp.asarray, dataset.test))
    accuracy = jax.jit(model.accuracy)

    def measure(state: federated.State) -> dict[str, float]:
        found = tally.find(state.optimizer)
        right = float(accuracy(federated.server(state), *test))
        return {"test_accuracy": right, **against_global(found.u, found.accepted)}

    job = federated.Job(model.loss, (images, labels, seen), batch)
    content, state = followed(params, job, run.optimizer(), run.clients, run.stops(), measure)
    return content | {"selection_ms": selection_ms(run, state)}


def against_global(u: Any, accepted: Any) -> dict[str, float]:
    """How far a message is from the global top-k of the same size, the mean over clients.

    Args:
      u: tree of [W, ...] arrays, what the messages were made of.
      accepted: the same, what of it was sent.

    Returns:
      "spread": decades between the largest and the smallest threshold of the layers that sent something;
      "overlap": share of the global top-k's entries that were sent;
      "captured": squared norm sent, over that of the global top-k.
    """
    found: dict[str, list[float]] = {"spread": [], "overlap": [], "captured": []}
    layers = [
        (np.abs(np.asarray(a)), np.asarray(b) != 0)
        for a, b in zip(jax.tree.leaves(u), jax.tree.leaves(accepted), strict=True)
    ]
    for client in range(len(layers[0][0])):
        mine = [(size[client].reshape(-1), is_sent[client].reshape(-1)) for size, is_sent in layers]
        thresholds = [size[is_sent].min() for size, is_sent in mine if is_sent.any()]
        total, sent = (np.concatenate(parts) for parts in zip(*mine, strict=True))
        best = np.argsort(-total, kind="stable")[: int(sent.sum())]
        if not len(best):
            continue
        found["spread"].append(float(np.log10(max(thresholds) / min(thresholds))))
        found["overlap"].append(float(sent[best].mean()))
        norms = (np.sum(total[chosen].astype(np.float64) ** 2) for chosen in (sent, best))
        found["captured"].append(float(next(norms) / next(norms)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def selection_ms(run: Run, state: federated.State) -> float:
    """Median time of one client's compression of its last u, in milliseconds."""
    kept = jax.tree.map(lambda leaf: leaf[0], tally.find(state.optimizer))
    compressor = run.compressor().compressor
    compress = jax.jit(compressor.compress)
    jax.block_until_ready(compress(kept.u, kept.inner))
    times = []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        jax.block_until_ready(compress(kept.u, kept.inner))
        times.append(1000 * (time.perf_counter() - begin))
    return float(np.median(times))
