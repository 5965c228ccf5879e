"""What a task is: what its examples are, how a model is called on them, its loss and its score.

A task is small and hashable, since runs that differ only in their seed share compiled programs by it. Data are
beside it in `Loaded`: three trees of NumPy arrays whose leading axis counts examples. Everything is called on a
*batch*, which is such a tree with B examples. A model is called as

    outputs = model.apply(variables, *task.inputs(batch), train=...)

and its own collections (statistics of batches, the state of a recurrent network) go from step to step as they are
left. A new task is one file with a class and a `load`, and one line in `TASKS`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

# (plain model, its variables, split) -> score -> value.
Scorer = Callable[[Any, Any, str], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Task:
    """What tasks have in common; those here are frozen dataclasses of what was learnt from their data.

    Attributes:
      name: in `TASKS`.
      models: names in `build.MODELS` that can be called on its inputs.
      score: name of the score that chooses the best epoch.
      is_higher_better: its direction.
      keeps_order: whether row b of a batch goes on where row b of the batch before ended, so that batches are
        taken in the order of the examples and evaluation carries the collection "carry" from part to part.
    """

    name: ClassVar[str]
    models: ClassVar[tuple[str, ...]]
    score: ClassVar[str] = "accuracy"
    is_higher_better: ClassVar[bool] = True
    keeps_order: ClassVar[bool] = False

    @property
    def sizes(self) -> Mapping[str, Any]:
        """Fields of models that the data decide; a model is given those that it has."""
        raise NotImplementedError

    @property
    def rows(self) -> int | Mapping[str, int] | None:
        """Rows that reach a layer in a step, see `backward.linen.sparsify`; None for those of the call."""
        return None

    @property
    def evaluation_rows(self) -> int | None:
        """Examples that pass the model at once in evaluation; None for the loop's own number."""
        return None

    def module(self, plain: Any) -> Any:
        """The model as it is called on `inputs`; a wrapper where the plain one is not."""
        return plain

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        """What the model is called with."""
        raise NotImplementedError

    @property
    def augments(self) -> bool:
        """Whether training sees `augmented` batches."""
        return False

    def augmented(self, batch: Any, key: jax.Array) -> Any:
        """A training batch with random changes; `loss` takes it, `tally` need not."""
        raise NotImplementedError

    def loss(self, outputs: Any, batch: Any) -> jax.Array:
        """Mean loss of a batch, in nats where it is a cross entropy."""
        raise NotImplementedError

    def tally(self, outputs: Any, batch: Any) -> Any:
        """Sums over the batch; those of all parts of a split are added up and given to `scores`."""
        raise NotImplementedError

    def scores(self, sums: Any) -> dict[str, jax.Array]:
        """Scores of a split from its sums, `score` among them unless `Loaded.at_evaluation` has it."""
        raise NotImplementedError

    def steps_per_epoch(self, examples: int, batch: int) -> int:
        """Whole batches of all workers in an epoch.

        Args:
          examples: of training.
          batch: of all workers together; not always of those for whom the examples were laid out.
        """
        return examples // batch


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Tasks scored by accuracy: batches are inputs and labels int32[...], negative where there is none."""

    def tally(self, outputs: Any, batch: Any) -> Any:
        labels = batch[1]
        # A label that is none is never the largest logit.
        hits = (outputs.argmax(-1) == labels).sum(dtype=jnp.int32)
        return hits, (labels >= 0).sum(dtype=jnp.int32)

    def scores(self, sums: Any) -> dict[str, jax.Array]:
        hits, labels = sums
        return {"accuracy": hits.astype(jnp.float32) / labels}


class Loaded(NamedTuple):
    """A task with its data.

    Attributes:
      task: what to do with them.
      train, validation, test: trees of NumPy arrays [N, ...]; the last two are None where only
        `at_evaluation` scores them.
      notes: what a person should know, such as how many examples had to be cut.
      at_evaluation: scores that are found on the host, at every evaluation.
      at_end: the same, for those that take too long, after the last step.
    """

    task: Task
    train: Any
    validation: Any
    test: Any
    notes: tuple[str, ...] = ()
    at_evaluation: Scorer | None = None
    at_end: Scorer | None = None

    @property
    def examples(self) -> int:
        """Training examples."""
        return int(jax.tree.leaves(self.train)[0].shape[0])
