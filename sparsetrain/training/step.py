"""The compiled functions of a run: many optimizer steps per call, loss, accuracy."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain import varying
from sparsetrain.training import measure
from sparsetrain.training.state import TrainState, dropout_key
from sparsetrain.training.workers import Workers

# Examples that pass the model at once when a whole split is evaluated.
EVALUATION_ROWS = 1000

# What `backward.linen.sparsify` adds to a model's variables; without them it is the plain model.
SPARSE_COLLECTIONS = ("memory", "row_sparse")


class Functions(NamedTuple):
    """What `make` compiles; `loss` is plain, the others are jitted.

    Attributes:
      loss: (variables, images, labels, dropout key or None) -> mean cross entropy in nats.
      train: (state, images, labels, order, steps) -> (state after `steps` steps, mean loss over
        them).
      accuracy: (variables, images, labels) -> share of examples whose largest logit is the label.
      angles: (variables, images, labels, batch size, paths) -> gradient angles in radians, see
        `measure`.
    """

    loss: Callable[..., jax.Array]
    train: Callable[..., tuple[TrainState, jax.Array]]
    accuracy: Callable[..., jax.Array]
    angles: Callable[..., dict[str, jax.Array]]


def pixels(images: jax.Array) -> jax.Array:
    """uint8 [B, H, W, C] -> float32 in [0, 1]; kept as bytes, data take a quarter of the memory."""
    return images.astype(jnp.float32) / 255.0


def without(variables: Mapping[str, Any], *collections: str) -> dict[str, Any]:
    """The variables less some collections."""
    return {name: part for name, part in variables.items() if name not in collections}


def make(
    model: Any, optimizer: optax.GradientTransformation, workers: Workers | None = None
) -> Functions:
    """The functions of a run for a classifier of images.

    `train` takes the number of steps as data, so one compiled program serves every call: a whole
    epoch, the rest of one after a restart, and a call of zero steps that only compiles. Its state
    is donated.

    Args:
      model: linen module or `backward.linen.sparsify` of one, called as `apply(variables, x,
        train=...)`.
      optimizer: transformation of the whole variables.
      workers: who trains; None for one. With several, `variables` and `opt_state` have a leading axis
        [W] in `train`, and a row of `order` has the batches of all of them, one behind the other.

    Returns:
      `Functions`.

    Example:
      >>> import numpy as np, optax
      >>> from sparsetrain.models import MLP
      >>> from sparsetrain.training import state
      >>> model, optimizer = MLP(hidden=(4,)), optax.sgd(0.1)
      >>> images, labels = np.zeros([6, 2, 2, 1], np.uint8), np.zeros([6], np.int32)
      >>> order = np.arange(6, dtype=np.int32).reshape(3, 2)      # 3 batches of 2 examples
      >>> start = state.create(model, optimizer, pixels(images[:2]), seed=0)
      >>> end, loss = make(model, optimizer).train(start, images, labels, order, 2)
      >>> int(end.step)
      2
    """

    workers = workers or Workers()

    def loss(
        variables: Any, images: jax.Array, labels: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        return loss_and_changes(variables, images, labels, key)[0]

    def loss_and_changes(
        variables: Any, images: jax.Array, labels: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The loss, and the model's own collections (batch statistics) as training leaves them."""
        streams = None if key is None else {"dropout": key}
        own = [name for name in variables if name not in ("params", *SPARSE_COLLECTIONS)]
        mutable = own if own and key is not None else False
        result = model.apply(
            variables, pixels(images), train=key is not None, rngs=streams, mutable=mutable
        )
        logits, changes = result if mutable else (result, {})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), changes

    def one(
        state: TrainState, images: jax.Array, labels: jax.Array, order: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        batch = order[state.step % order.shape[0]]
        key = dropout_key(state.key, state.step)
        if workers.axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(workers.axis_name))
        (value, changes), gradients = jax.value_and_grad(loss_and_changes, has_aux=True)(
            state.variables, images[batch], labels[batch], key
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.variables)
        variables = {**optax.apply_updates(state.variables, updates), **changes}
        return TrainState(state.step + 1, variables, opt_state, state.key), value

    def train(
        state: TrainState, images: jax.Array, labels: jax.Array, order: jax.Array, steps: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        """Steps of all workers, each with batches of its own."""
        dealt = order.reshape(order.shape[0], workers.count, -1)
        own, loss = workers.each(of_worker)(
            (state.variables, state.opt_state), dealt, images, labels, state.step, state.key, steps
        )
        return TrainState(state.step + steps, own[0], own[1], state.key), loss

    def of_worker(
        own: tuple[Any, Any],
        order: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        step: jax.Array,
        key: jax.Array,
        steps: jax.Array,
    ) -> tuple[tuple[Any, Any], jax.Array]:
        def body(_: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, total = carry
            state, value = one(state, images, labels, order)
            return varying.over(axes, (state, total + value))

        # On a mesh all of a worker's own is said to differ, also what an exchange has made equal.
        axes = varying.axes_of(own)
        start = varying.over(
            axes, (TrainState(step, own[0], own[1], key), jnp.zeros([], jnp.float32))
        )
        state, total = jax.lax.fori_loop(0, steps, body, start)
        mean = total / jnp.maximum(steps, 1).astype(jnp.float32)
        return (state.variables, state.opt_state), mean

    def accuracy(variables: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        dense = without(variables, *SPARSE_COLLECTIONS)

        def hits(part: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits = model.apply(dense, pixels(part[0]), train=False)
            return (logits.argmax(-1) == part[1]).sum(dtype=jnp.int32)

        examples = images.shape[0]
        whole = examples - examples % EVALUATION_ROWS
        total = jnp.zeros([], jnp.int32)
        if whole:
            parts = jax.tree.map(
                lambda x: x[:whole].reshape(-1, EVALUATION_ROWS, *x.shape[1:]), (images, labels)
            )
            total += jax.lax.map(hits, parts).sum(dtype=jnp.int32)
        if whole < examples:
            total += hits((images[whole:], labels[whole:]))
        return total.astype(jnp.float32) / examples

    def angles(
        variables: Any,
        images: jax.Array,
        labels: jax.Array,
        batch_size: int,
        paths: tuple[str, ...] = (),
    ) -> dict[str, jax.Array]:
        # Without its taps a row-sparse model has the same gradient in dense form.
        sparse = without(variables, "row_sparse")
        dense = without(variables, *SPARSE_COLLECTIONS)
        return measure.gradient_angles(loss, sparse, dense, images, labels, batch_size, paths)

    return Functions(
        loss,
        jax.jit(train, donate_argnums=0),
        jax.jit(accuracy),
        jax.jit(angles, static_argnums=(3, 4)),
    )
