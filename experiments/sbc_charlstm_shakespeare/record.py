"""One run to one result file: never a partial one, never a finished one again."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.grid import write_once
from experiments.sbc_charlstm_shakespeare.runs import Run
from experiments.sbc_lenet_mnist import federated
from experiments.sbc_lenet_mnist.record import followed
from sparsetrain.data import text
from sparsetrain.models import CharLSTM

TEST_ROWS = 50


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


def train(run: Run, corpus: text.Text) -> dict[str, Any]:
    """Curves, totals and the account of every tensor.

    Args:
      run: what to train.
      corpus: trained on its first part, tested on its last.

    Returns:
      The fields of a result file that are measured.
    """
    model = CharLSTM(len(corpus.symbols), hidden=run.hidden)
    job = shakespeare(model, corpus.train, run)
    inputs = jnp.zeros([run.rows, run.length], jnp.int32)
    params = model.init(jax.random.key(run.seed), inputs, model.initial(run.rows))["params"]
    rows = min(TEST_ROWS, len(corpus.test) // (run.length + 1))
    held_out = jnp.asarray(text.streams(corpus.test, rows, run.length))
    loss = jax.jit(lambda params: mean_loss(model, params, held_out))
    content, _ = followed(
        params,
        job,
        run.optimizer(),
        run.clients,
        run.stops(),
        lambda state: {"test_perplexity": perplexity(float(loss(federated.server(state))))},
    )
    return content


def perplexity(loss: float) -> float:
    """exp of the mean cross entropy in nats; not beyond what a float holds."""
    return math.exp(min(loss, 700.0))


def shakespeare(model: CharLSTM, numbers: np.ndarray, run: Run) -> federated.Job:
    """Each client reads its part of the text window by window, in rows side by side, and then again.

    Args:
      model: the network.
      numbers: int32[N], the training text.
      run: rows, length and number of clients.

    Returns:
      What `federated` trains; the carry is the network's state, which restarts with the text.
    """
    own = len(numbers) // run.clients
    parts = numbers[: own * run.clients].reshape(run.clients, own)
    windows = jnp.asarray(np.stack([text.streams(part, run.rows, run.length) for part in parts]))

    def batch(windows: Any, client: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = step % windows.shape[1]
        return windows[client, place], place > 0

    def loss(params: Any, batch: tuple[jax.Array, jax.Array], carry: Any) -> tuple[jax.Array, Any]:
        window, continues = batch
        carry = jax.tree.map(lambda state: jnp.where(continues, state, 0.0), carry)
        return window_loss(model, params, window, carry)

    return federated.Job(loss, windows, batch, model.initial(run.rows))


def window_loss(
    model: CharLSTM, params: Any, window: jax.Array, carry: Any
) -> tuple[jax.Array, Any]:
    """Mean cross entropy in nats of a window [B, T + 1], and the state behind it."""
    logits, carry = model.apply({"params": params}, window[:, :-1], carry)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:])
    return jnp.mean(losses), carry


def mean_loss(model: CharLSTM, params: Any, windows: jax.Array) -> jax.Array:
    """Mean cross entropy of a text in windows [W, R, T + 1], with the state carried on."""

    def one(carry: Any, window: jax.Array) -> tuple[Any, jax.Array]:
        loss, carry = window_loss(model, params, window, carry)
        return carry, loss

    return jnp.mean(lax.scan(one, model.initial(windows.shape[1]), windows)[1])
