"""Texts that are read on and on: truncated backpropagation through time, and perplexity.

The text is cut into as many streams as all workers together have rows, and each stream into windows; an example is
one window. Row b of a batch continues row b of the batch before, so examples keep their order, and the state of
the network goes from step to step in the collection "carry", set to zero where a stream begins.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from sparsetrain.data import text
from sparsetrain.training.tasks.task import Loaded, Task


class Continued(nn.Module):
    """A recurrent model whose state is kept in the collection "carry".

    Its parameters have the plain model's paths. The state is written where the collection is mutable, in
    training and in an evaluation that reads on; else it is only read.

    Attributes:
      model: with `initial(batch)`, called as `model(tokens, carry, train=...) -> (logits, carry)`.

    Example:
      >>> from sparsetrain.models import CharLSTM
      >>> model = Continued(CharLSTM(symbols=5, embedding=3, hidden=4))
      >>> tokens, begins = jnp.zeros([2, 7], int), jnp.ones(2, bool)
      >>> variables = model.init(jax.random.key(0), tokens, begins)
      >>> logits, after = model.apply(variables, tokens, begins, mutable=["carry"])
      >>> logits.shape, sorted(variables["params"]), bool(jax.tree.leaves(after)[0].any())
      ((2, 7, 5), ['embedding', 'lstm_0', 'lstm_1', 'output'], True)
    """

    model: nn.Module

    def setup(self) -> None:
        nn.share_scope(self, self.model)

    @nn.compact
    def __call__(self, tokens: jax.Array, begins: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of the symbol that follows each.

        Args:
          tokens: int[B, T].
          begins: bool[B], rows whose stream begins here.
          train: whether dropout acts.

        Returns:
          [B, T, V], unnormalised log probabilities.
        """
        model: Any = self.model
        kept = self.variable("carry", "state", lambda: model.initial(tokens.shape[0]))
        state = jax.tree.map(lambda leaf: jnp.where(begins[:, None], 0.0, leaf), kept.value)
        # What the network was a window ago is data; nothing flows back there.
        state = jax.lax.stop_gradient(state)
        logits, state = model(tokens, state, train=train)
        if self.is_mutable_collection("carry") and not self.is_initializing():
            kept.value = state
        return logits


@dataclasses.dataclass(frozen=True)
class Streams(Task):
    """Batches are windows int32[B, T + 1] and bool[B], whether a row's stream begins.

    Attributes:
      symbols: V.
      batch: B of a worker, in training and in evaluation.
      length: T.
      text: symbols of the training text.
    """

    symbols: int
    batch: int
    length: int
    text: int

    score: ClassVar[str] = "perplexity"
    is_higher_better: ClassVar[bool] = False
    keeps_order: ClassVar[bool] = True

    @property
    def sizes(self) -> Mapping[str, Any]:
        return {"symbols": self.symbols}

    @property
    def rows(self) -> int:
        return self.batch * self.length

    @property
    def evaluation_rows(self) -> int:
        return self.batch

    def module(self, plain: Any) -> Any:
        return Continued(plain)

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        windows, begins = batch
        return windows[:, :-1], begins

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[0][:, 1:]).mean()

    def tally(self, outputs: Any, batch: Any) -> Any:
        told = batch[0][:, 1:]
        return self.loss(outputs, batch) * told.size, jnp.int32(told.size)

    def scores(self, sums: Any) -> dict[str, jax.Array]:
        nats, symbols = sums
        return {"perplexity": jnp.exp(nats / symbols)}

    def steps_per_epoch(self, examples: int, batch: int) -> int:
        # Other workers cut the text into other streams.
        return (self.text // batch - 1) // self.length


def windows(numbers: np.ndarray, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A text as examples in the order in which they are read.

    Args:
      numbers: int32[N].
      rows: R, streams side by side.
      length: T.

    Returns:
      Windows int32[W R, T + 1], window by window, and bool[W R], whether a stream begins there.

    Example:
      >>> found, begins = windows(np.arange(10), rows=2, length=2)
      >>> found.tolist(), begins.tolist()
      ([[0, 1, 2], [5, 6, 7], [2, 3, 4], [7, 8, 9]], [True, True, False, False])
    """
    cut = text.streams(numbers, rows, length)
    begins = np.repeat(np.arange(len(cut)) == 0, rows)
    return cut.reshape(-1, length + 1), begins


def loaded(
    make: type[Streams], symbols: int, parts: Any, batch_size: int, workers: int, length: int
) -> Loaded:
    """The examples of a text in three parts.

    Args:
      make: the task.
      symbols: V.
      parts: with `train`, `validation` and `test`, int32[N] each.
      batch_size: B of a worker; also the streams that validation and test are read in.
      workers: W.
      length: T.

    Returns:
      `Loaded`, with a note of the symbols that fill no window.
    """
    if min(batch_size, length) < 1:
        raise ValueError(
            f"data.batch_size={batch_size}, task.length={length}: both must be at least 1"
        )
    task = make(symbols, batch_size, length, len(parts.train))
    train, validation, test = (
        windows(part, rows, length)
        for part, rows in (
            (parts.train, batch_size * workers),
            (parts.validation, batch_size),
            (parts.test, batch_size),
        )
    )
    left = len(parts.test) - test[0].shape[0] * length
    note = f"{left:,} of {len(parts.test):,} test symbols begin a stream or fill no window"
    return Loaded(task, train, validation, test, (note,))
