"""Models by name, and with their rules."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
from flax import linen as nn

from sparsetrain import backward, models
from sparsetrain.training.named import lookup
from sparsetrain.training.tasks import Task

MODELS: dict[str, Callable[..., Any]] = {
    "char_lstm": models.CharLSTM,
    "lenet5": models.LeNet5,
    "mlp": models.MLP,
    "pointnet2": models.PointNet2,
    "resnet": models.ResNet,
    "resnet50": models.ResNet50,
    "seq2seq": models.Seq2Seq,
    "ssd300": models.SSD300,
    "tagger": models.Tagger,
    "text_cnn": models.TextCNN,
    "transformer": models.Transformer,
    "transition_parser": models.TransitionParser,
    "vgg16": models.VGG16,
    "word_lstm": models.WordLSTM,
}
# What `model.cell` may say; only the first has products that rules of `backward` can match.
CELLS = {"lstm": nn.LSTMCell, "optimized_lstm": nn.OptimizedLSTMCell}


@dataclasses.dataclass(frozen=True)
class Alternating:
    """A model whose rules take turns: at step t those of `turns[t % n]` act, and other layers are dense.

    Memories of the others stay as they are. MSBP trains translators so, the encoder at even steps and the decoder
    at odd ones. Attributes that are not here are those of `whole`.

    Attributes:
      whole: with the rules of all turns; initializes, and tells what is measured.
      turns: the same model with the rules of one turn each.
    """

    whole: backward.linen.Sparsified
    turns: tuple[backward.linen.Sparsified, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


def model(
    config: ml_collections.FrozenConfigDict,
    rules: Mapping[str, Any],
    task: Task,
    row_sparse: bool,
    turns: Sequence[str] | None = None,
) -> Any:
    """The network with its rules, or the plain one where there are none.

    Args:
      config: `name`, and fields of that model; of `cell` a name in `CELLS`.
      rules: as from `rules`.
      task: which gives the fields that data decide, and may wrap the model.
      row_sparse: whether kernels get row-sparse gradients.
      turns: expressions of the rules' own; see `Alternating`. None if all act at every step.

    Raises:
      ValueError: an unknown name, a model of another task, or turns that leave a rule out.
    """
    fields = {key: value for key, value in config.items() if key != "name"}
    factory = lookup(MODELS, config.name, "model.name")
    if config.name not in task.models:
        raise ValueError(
            f"model.name={config.name!r} is no model of the task {task.name}; "
            f"choose one of {', '.join(sorted(task.models))}"
        )
    if "cell" in fields:
        fields["cell"] = lookup(CELLS, fields["cell"], "model.cell")
    known = inspect.signature(factory).parameters
    fields = {key: value for key, value in task.sizes.items() if key in known} | fields
    plain = task.module(factory(**fields))
    if not rules:
        return plain
    sparsify = functools.partial(
        backward.linen.sparsify, plain, rows=task.rows, row_sparse=row_sparse
    )
    if not turns:
        return sparsify(rules)
    if set(turns) != set(rules):
        raise ValueError(
            f"backward.turns={tuple(turns)}: must name each of the rules {tuple(rules)} once"
        )
    return Alternating(sparsify(rules), tuple(sparsify({turn: rules[turn]}) for turn in turns))


def layers(model: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """Layers that rules can match, see `backward.linen.Sparsified.layers`; none of a plain model.

    Args:
      model: as from `model`.
      inputs: what it is called with.

    Example:
      >>> import jax.numpy as jnp
      >>> layers(models.Tagger(symbols=9, tags=3, layers=1), (jnp.zeros([1, 2], int),))
      []
    """
    return model.layers(jax.random.key(0), *inputs) if has_rules(model) else []


def has_rules(model: Any) -> bool:
    """Whether it is more than the plain model."""
    # By the type: plain models may have attributes of the same names.
    return isinstance(model, backward.linen.Sparsified | Alternating)
