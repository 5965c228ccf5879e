"""One run to one result file: never a partial one, never a finished one again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.grid import write_once
from experiments.sbc_lenet_mnist import batch_last, federated, shared, tally
from experiments.sbc_lenet_mnist.runs import Run
from sparsetrain import data, tree
from sparsetrain.models import LeNet5


def load() -> data.Dataset:
    """MNIST, all 60,000 training images: nothing is chosen by a validation set."""
    found = data.load("mnist")
    joined = (np.concatenate(parts) for parts in zip(found.train, found.validation, strict=True))
    return found._replace(train=data.Split(*joined))


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


def train(run: Run, dataset: data.Dataset) -> dict[str, Any]:
    """Curves, totals and the account of every tensor.

    Args:
      run: what to train.
      dataset: images and labels.

    Returns:
      The fields of a result file that are measured.
    """
    starts, order = jax.random.split(jax.random.key(run.seed))
    params = LeNet5().init(starts, jnp.zeros([1, 28, 28, 1]))["params"]
    images, labels = map(jnp.asarray, dataset.train)
    seen = federated.batches(order, len(labels), run.clients, run.iterations, run.batch)

    job = federated.Job(batch_last.loss, (images, labels, seen), batch)
    test = tuple(map(jnp.asarray, dataset.test))
    accuracy = jax.jit(batch_last.accuracy)
    content, state = followed(
        params,
        job,
        run.optimizer(),
        run.clients,
        run.stops(),
        lambda state: {"test_accuracy": float(accuracy(federated.server(state), *test))},
    )
    last_message = tally.find(state.optimizer).u
    is_binary = run.how.kind == "sbc"
    return content | {
        "shared": shared.compare(last_message, run.how.density) if is_binary else None
    }


def followed(
    params: Any,
    job: federated.Job,
    optimizer: optax.GradientTransformation,
    clients: int,
    stops: Sequence[int],
    measure: Callable[[federated.State], dict[str, float]],
) -> tuple[dict[str, Any], federated.State]:
    """Trains, and measures on the way.

    Args:
      params: that all clients start from.
      job: what is trained.
      optimizer: of one client.
      clients: number of clients.
      stops: steps at which is measured, rising; the last one ends the run.
      measure: state -> numbers by name.

    Returns:
      "summary", "curves" and "tensors" of a result file; and the last state.
    """
    state = federated.create(params, optimizer, clients, job)
    advance = federated.trainer(job, optimizer)
    lines = []
    for stop in stops:
        state = advance(state, stop)
        measured = measure(state)
        measured |= {"train_loss": float(jnp.mean(state.loss))}
        lines.append({"iteration": stop, **measured, **federated.sent(state)})
    last = lines[-1]
    leaves = jax.tree.leaves(params)
    entries = {path: leaf.size for path, leaf in zip(tree.paths(params), leaves, strict=True)}
    summary = {
        name: value for name, value in last.items() if name not in ("iteration", "dense_bits")
    }
    content = {
        "summary": summary
        | {
            "compression_ratio": last["dense_bits"] / last["bits"],
            "wire_ratio": last["dense_bits"] / (8 * last["wire_bytes"]),
            "nonfinite": nonfinite(state),
        },
        "curves": {name: [line[name] for line in lines] for name in last},
        "tensors": {
            name: {"entries": entries.get(name, sum(entries.values())), **counted}
            for name, counted in federated.per_tensor(state, list(entries)).items()
        },
    }
    return content, state


def batch(arrays: Any, client: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images and labels of one client's batch."""
    images, labels, seen = arrays
    chosen = seen[client, step]
    return images[chosen], labels[chosen]


def nonfinite(state: federated.State) -> int:
    """Messages that were not sent because something in them was not finite, over all clients."""
    states = jax.tree.leaves(state.optimizer, is_leaf=lambda node: hasattr(node, "nonfinite"))
    return sum(int(jnp.sum(node.nonfinite)) for node in states if hasattr(node, "nonfinite"))
