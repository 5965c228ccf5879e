"""All lanes of a run, seeds times learning rates, in one compiled program: `jax.vmap` over single runs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.msbp_gains.rules import rule
from experiments.msbp_gains.runs import SHOWN, Run
from sparsetrain import backward, data
from sparsetrain.models import MLP

BATCH = 32
# Images that pass the networks at once in an evaluation.
CHUNK = 2_500


class Images(NamedTuple):
    """Examples on the device: float32 [N, H, W, 1] in [0, 1] and int32 [N]."""

    images: jax.Array
    labels: jax.Array


class Splits(NamedTuple):
    """What is trained on, what chooses epochs and learning rates, and what is only reported."""

    train: Images
    validation: Images
    test: Images


class Lane(NamedTuple):
    """State of one training run, or, with a leading axis, of all.

    Attributes:
      variables: parameters and memories.
      moments: state of the optimizer.
      key: of its seed.
      subset: int32 [N], which examples it trains on.
      best: (validation accuracy, parameters) of the best epoch so far.
    """

    variables: Any
    moments: Any
    key: jax.Array
    subset: jax.Array
    best: tuple[jax.Array, Any]


def load(name: str = "mnist", validation: int = 2_500) -> Splits:
    """A data set at half the resolution: means of 2 x 2 pixels; the first `validation` held-out images."""
    dataset = data.load(name)
    held = data.Split(*(part[:validation] for part in dataset.validation))
    return Splits(*map(halved, (dataset.train, held, dataset.test)))


def halved(split: data.Split) -> Images:
    """Means of 2 x 2 pixels, in [0, 1].

    Example:
      >>> halved(data.Split(np.full((1, 4, 4, 1), 255, np.uint8), np.zeros(1, np.int32))).images.shape
      (1, 2, 2, 1)
    """
    examples, height, width, channels = split.images.shape
    blocks = split.images.reshape(examples, height // 2, 2, width // 2, 2, channels)
    images = blocks.mean(axis=(2, 4), dtype=np.float32) / np.float32(255)
    return Images(jnp.asarray(images), jnp.asarray(split.labels))


def model(run: Run) -> Any:
    """The network, with the rule of the run on every layer but the last."""
    plain = MLP(hidden=run.settings.hidden, dropout=run.settings.dropout)
    chosen = rule(run.method.name, run.method.density, run.method.decay)
    if chosen is None:
        return plain
    return backward.linen.sparsify(plain, {r"hidden_\d+/kernel": chosen})


def optimizer(run: Run, rate: float | jax.Array) -> optax.GradientTransformation:
    """Adam with decoupled weight decay, or SGD with momentum, for parameters beside memories."""
    settings = run.settings
    schedule: Any = rate
    if settings.schedule == "cosine":
        total = settings.epochs * (settings.images // BATCH)

        def schedule(count: jax.Array) -> jax.Array:
            return rate * 0.5 * (1 + jnp.cos(jnp.pi * count / total))

    if settings.optimizer == "sgd":
        return backward.carry_memory(optax.sgd(schedule, momentum=settings.beta1 or None))
    adam = optax.adamw(schedule, b1=settings.beta1, weight_decay=settings.weight_decay)
    return backward.carry_memory(adam)


def start(run: Run, seed: int, splits: Splits) -> Lane:
    """First state of a seed: for every method the same subset, weights and key of batches and dropout."""
    draw = np.random.default_rng(seed)
    subset = draw.permutation(len(splits.train.labels))[: run.settings.images]
    weights, key = jax.random.split(jax.random.key(seed))
    variables = initial(run.settings.hidden, run.settings.init, weights, splits.train.images[:1])
    network = model(run)
    shapes = jax.eval_shape(network.init, weights, splits.train.images[:1])
    # What a rule adds to the parameters, its memories, starts from zero.
    added = {name: part for name, part in shapes.items() if name != "params"}
    variables |= jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), added)
    best = (jnp.float32(-1), jax.tree.map(jnp.copy, variables["params"]))
    moments = optimizer(run, 0.0).init(variables)
    return Lane(variables, moments, key, jnp.asarray(subset, jnp.int32), best)


@functools.partial(jax.jit, static_argnums=(0, 1))
def initial(hidden: tuple[int, ...], init: str, key: jax.Array, images: jax.Array) -> Any:
    """First weights: He's, or those of meProp's code, weights and biases uniform in +-1 / sqrt(outputs)."""
    variables = MLP(hidden=hidden).init(key, images)
    if init == "he":
        return variables
    leaves, structure = jax.tree.flatten(variables)
    drawn = []
    for number, leaf in enumerate(leaves):
        bound = 1 / leaf.shape[-1] ** 0.5
        of_leaf = jax.random.fold_in(key, number)
        drawn.append(jax.random.uniform(of_leaf, leaf.shape, leaf.dtype, -bound, bound))
    return jax.tree.unflatten(structure, drawn)


def epoch(run: Run, lane: Lane, rate: jax.Array, number: jax.Array, splits: Splits) -> Lane:
    """One pass over a lane's subset, and its best parameters so far by validation.

    Args:
      run: its setup and method.
      lane: state of one training run.
      rate: scalar, learning rate.
      number: int scalar, of the epoch, from 0.
      splits: the data.

    Returns:
      The next state.
    """
    network, tx = model(run), optimizer(run, rate)
    order, drops = jax.random.split(jax.random.fold_in(lane.key, number))
    steps = run.settings.images // BATCH
    places = jax.random.permutation(order, lane.subset)[: steps * BATCH].reshape(steps, BATCH)

    def loss(variables: Any, batch: jax.Array, key: jax.Array) -> jax.Array:
        images, labels = splits.train.images[batch], splits.train.labels[batch]
        logits = network.apply(variables, images, train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry: tuple[Any, Any], at: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        variables, moments = carry
        gradients = jax.grad(loss)(variables, *at)
        updates, moments = tx.update(gradients, moments, variables)
        return (optax.apply_updates(variables, updates), moments), None

    keys = jax.random.split(drops, steps)
    (variables, moments), _ = lax.scan(step, (lane.variables, lane.moments), (places, keys))
    now = (
        accuracy(run.settings.hidden, variables["params"], splits.validation),
        variables["params"],
    )
    is_better = now[0] > lane.best[0]
    best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), now, lane.best)
    return Lane(variables, moments, lane.key, lane.subset, best)


def accuracy(hidden: tuple[int, ...], params: Any, examples: Images) -> jax.Array:
    """Share of examples whose largest logit is the label."""
    network = MLP(hidden=hidden)
    size = min(CHUNK, len(examples.labels))
    if len(examples.labels) % size:
        raise ValueError(f"examples={len(examples.labels)}: must be whole chunks of {size}")
    parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), examples)

    def right(part: Images) -> jax.Array:
        logits: Any = network.apply({"params": params}, part.images)
        return jnp.sum(jnp.argmax(logits, axis=-1) == part.labels)

    return jnp.sum(lax.map(right, parts)) / len(examples.labels)


@functools.cache
def lanes_epoch(run: Run) -> Callable[..., Lane]:
    """`epoch` over lanes [L] and their rates [L], compiled; the run is a `Run.static`."""
    over = jax.vmap(functools.partial(epoch, run), in_axes=(0, 0, None, None))
    return jax.jit(over, donate_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def lanes_accuracy(hidden: tuple[int, ...], params: Any, examples: Images) -> jax.Array:
    """`accuracy` of lanes [L]."""
    return jax.vmap(functools.partial(accuracy, hidden), in_axes=(0, None))(params, examples)


def train(run: Run, splits: Splits) -> dict[str, Any]:
    """All lanes of a run.

    Args:
      run: what to train.
      splits: the data.

    Returns:
      Measured fields of a result file, each a list over learning rates of lists over seeds, accuracies as shares:
      `validation` at the best epoch, and of an evaluation also `test` there, `test_at_end`, and `curve`, epoch ->
      test accuracy.

    Raises:
      ValueError: fewer training images than the run's subset.
    """
    if len(splits.train.labels) < run.settings.images:
        raise ValueError(
            f"images={run.settings.images}: there are only {len(splits.train.labels)} training images"
        )
    is_tuning = run.stage == "tuning"
    hidden, compiled = run.settings.hidden, lanes_epoch(run.static)
    rates = jnp.asarray([rate for rate in run.rates for _ in run.seeds], jnp.float32)
    of_seeds = [start(run, seed, splits) for seed in run.seeds]
    lanes = jax.tree.map(lambda *leaves: jnp.stack(leaves * len(run.rates)), *of_seeds)

    def listed(values: jax.Array) -> list[list[float]]:
        table = np.asarray(values, np.float64).reshape(len(run.rates), len(run.seeds))
        return np.round(table, 4).tolist()

    curve = {}
    for number in range(run.settings.epochs):
        lanes = compiled(lanes, rates, jnp.asarray(number), splits)
        if number + 1 in SHOWN and not is_tuning:
            now = lanes_accuracy(hidden, lanes.variables["params"], splits.test)
            curve[str(number + 1)] = listed(now)
    validation, params = lanes.best
    measured: dict[str, Any] = {"validation": listed(validation)}
    if is_tuning:
        return measured
    return measured | {
        "test": listed(lanes_accuracy(hidden, params, splits.test)),
        "test_at_end": listed(lanes_accuracy(hidden, lanes.variables["params"], splits.test)),
        "curve": curve,
    }
