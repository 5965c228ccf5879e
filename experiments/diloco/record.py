"""One run to one result file: never a partial one, never a finished one again."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.diloco import methods
from experiments.diloco.methods import AXIS, WORKERS
from experiments.diloco.runs import Run
from experiments.grid import write_once
from sparsetrain import compress
from sparsetrain.data import text
from sparsetrain.models import DecoderLM

BATCH, CONTEXT = 4, 64
# Times at which the validation loss is taken.
STOPS = 10
# Held-out windows that pass the model at once.
ROWS = 64


def load() -> text.Text:
    """The text of all runs."""
    return text.load_text("tinyshakespeare")


def record(run: Run, out: Path, load: Callable[[], text.Text] = load) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      load: gives the text; the tests take a shorter one.

    Returns:
      Whether there was something to do.
    """
    return write_once(run, out, lambda: train(run, load()))


@functools.lru_cache(maxsize=32)  # Seeds of a cell share what is compiled.
def program(method: str, density: float, outer: str, steps: int, every: int, symbols: int) -> Any:
    """(state of a worker from its parameters, steps of all workers, mean loss of windows), compiled once a cell."""
    run = Run(method, 0, density, outer, steps, every)
    model, tx = DecoderLM(symbols), methods.optimizer(run)

    def loss(params: Any, windows: jax.Array) -> jax.Array:
        logits = model.apply({"params": params}, windows[:, :-1])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:])
        return jnp.mean(losses)

    def of_worker(carry: Any, numbers: jax.Array, places: jax.Array) -> Any:
        def step(carry: Any, starts: jax.Array) -> Any:
            params, state = carry
            windows = numbers[starts[:, None] + jnp.arange(CONTEXT + 1)[None]]
            grads = jax.grad(loss)(params, windows)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return lax.scan(step, carry, places)[0]

    everybody = jax.vmap(of_worker, axis_name=AXIS)
    return tx.init, jax.jit(everybody, donate_argnums=0), jax.jit(loss)


def train(run: Run, corpus: text.Text) -> dict[str, Any]:
    """Curves, and what was sent.

    Each worker reads windows at random places of its own quarter of the training text; the loss is that of the model
    which all workers have right after an exchange.

    Args:
      run: what to train.
      corpus: trained on its first part, tested on its second.

    Returns:
      The fields of a result file that are measured; losses in nats a character.

    Raises:
      ValueError: steps that do not end with an exchange.
    """
    if run.steps % run.every or run.steps < run.every:
        raise ValueError(f"steps={run.steps}: make it a multiple of every={run.every}")
    symbols = len(corpus.symbols)
    plan = (run.method, run.density, run.outer, run.steps, run.every)
    begin, advance, loss = program(*plan, symbols)
    starts, order = jax.random.split(jax.random.key(run.seed))
    tokens = jnp.zeros((1, CONTEXT), jnp.int32)
    params = DecoderLM(symbols).init(starts, tokens)["params"]
    own = len(corpus.train) // WORKERS
    parts = jnp.asarray(corpus.train[: own * WORKERS].reshape(WORKERS, own))
    held_out = text.streams(
        corpus.validation, min(ROWS, len(corpus.validation) // (CONTEXT + 1)), CONTEXT
    )

    def everywhere(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * WORKERS), tree)

    carry = everywhere((params, begin(params)))
    curves: dict[str, list[float]] = {"step": [], "bits": [], "validation_loss": []}
    rounds, done = run.steps // run.every, 0
    for stop in sorted({max(1, rounds * n // STOPS) * run.every for n in range(1, STOPS + 1)}):
        draw = jax.random.fold_in(order, stop)
        shape = (WORKERS, stop - done, BATCH)
        places = jax.random.randint(draw, shape, 0, own - CONTEXT)
        carry, done = advance(carry, parts, places), stop
        first = jax.tree.map(lambda leaf: leaf[0], carry[0])
        found = float(np.mean([loss(first, windows) for windows in jnp.asarray(held_out)]))
        sent = compress.report(carry[1])
        for name, value in zip(curves, (stop, sent["bits_sent"] / WORKERS, found), strict=True):
            curves[name].append(value)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "workers": WORKERS,
        "rounds": rounds,
        "validation_loss": curves["validation_loss"][-1],
        "bits_per_worker": sent["bits_sent"] / WORKERS,
        "dense_bits_per_worker": sent["dense_bits"] / WORKERS,
        "curves": curves,
    }
