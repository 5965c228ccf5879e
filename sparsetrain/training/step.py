"""The compiled functions of a run: many optimizer steps per call, loss, scores."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import varying
from sparsetrain.side_by_side import side_by_side
from sparsetrain.training import measure
from sparsetrain.training.state import TrainState, dropout_key
from sparsetrain.training.tasks import Images, Task
from sparsetrain.training.workers import Workers

# Examples that pass the model at once when a whole split is evaluated, unless the task says another number.
EVALUATION_ROWS = 1000

# What `backward.linen.sparsify` adds to a model's variables; without them it is the plain model.
SPARSE_COLLECTIONS = ("memory", "row_sparse")


class Functions(NamedTuple):
    """What `make` compiles; `loss` is plain, the others are jitted.

    Attributes:
      loss: (variables, batch, dropout key or None) -> mean loss.
      train: (state, examples, order, steps) -> (state after `steps` steps, mean loss over them).
      one_by_one: the same by a program of a single step; on a CPU, XLA brings only convolutions outside of loops into
        the form that is fast, and gradients of the others take 10 times as long and more.
      scores: (variables, examples) -> name -> score of a split, see `tasks.Task.scores`.
      angles: (variables, examples, batch size, paths) -> gradient angles in radians, see `measure`.
    """

    loss: Callable[..., jax.Array]
    train: Callable[..., tuple[TrainState, jax.Array]]
    one_by_one: Callable[..., tuple[TrainState, jax.Array]]
    scores: Callable[..., dict[str, jax.Array]]
    angles: Callable[..., dict[str, jax.Array]]


def without(variables: Mapping[str, Any], *collections: str) -> dict[str, Any]:
    """The variables less some collections."""
    return {name: part for name, part in variables.items() if name not in collections}


def _one_by_one(
    program: Callable[..., tuple[TrainState, jax.Array]],
    state: TrainState,
    examples: Any,
    order: jax.Array,
    steps: Any,
) -> tuple[TrainState, jax.Array]:
    """`Functions.train` by a program of one step."""
    total, one = jnp.zeros([], jnp.float32), np.int32(1)
    if steps == 0:
        # Compiles, as the others do; the step is made by a copy, and is forgotten.
        jax.block_until_ready(program(jax.tree.map(jnp.copy, state), examples, order, one))
    for _ in range(int(steps)):
        state, loss = program(state, examples, order, one)
        total += loss
    return state, total / max(int(steps), 1)


def make(
    model: Any,
    optimizer: optax.GradientTransformation,
    workers: Workers | None = None,
    task: Task | None = None,
    together: Callable[[Any, Any, jax.Array], tuple[Any, Any]] | None = None,
    seen: Callable[[Any, Any], Any] | None = None,
) -> Functions:
    """The functions of a run.

    `train` takes the number of steps as data, so one compiled program serves every call: a whole
    epoch, the rest of one after a restart, and a call of zero steps that only compiles. Its state
    is donated.

    Args:
      model: linen module or `backward.linen.sparsify` of one, called as `apply(variables, *inputs,
        train=...)`; with `turns`, models of the same variables that take the steps in turn, see
        `build.Alternating`.
      optimizer: transformation of the whole variables.
      workers: who trains; None for one. With several, `variables` and `opt_state` have a leading axis
        [W] in `train`, and a row of `order` has the batches of all of them, one behind the other.
      task: what the examples are; None for images.
      together: (variables, optimizer state, steps done) -> (variables, optimizer state), what workers do behind
        every step; None for nothing.
      seen: (variables, optimizer state) -> variables at which gradients are taken; None for those that are moved.

    Returns:
      `Functions`.

    Example:
      >>> import numpy as np, optax
      >>> from sparsetrain.models import MLP
      >>> from sparsetrain.training import state
      >>> model, optimizer = MLP(hidden=(4,)), optax.sgd(0.1)
      >>> examples = np.zeros([6, 2, 2, 1], np.uint8), np.zeros([6], np.int32)
      >>> order = np.arange(6, dtype=np.int32).reshape(3, 2)      # 3 batches of 2 examples
      >>> start = state.create(model, optimizer, np.zeros([2, 2, 2, 1], np.float32), seed=0)
      >>> end, loss = make(model, optimizer).train(start, examples, order, 2)
      >>> int(end.step)
      2
    """

    workers = workers or Workers()
    task = task or Images(classes=0)
    turns = getattr(model, "turns", (model,))

    def loss(variables: Any, batch: Any, key: jax.Array | None = None) -> jax.Array:
        return loss_and_changes(model, variables, batch, key)[0]

    def loss_and_changes(
        model: Any, variables: Any, batch: Any, key: jax.Array | None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The loss, and the model's own collections (batch statistics) as training leaves them."""
        streams = None if key is None else {"dropout": key}
        own = [name for name in variables if name not in ("params", *SPARSE_COLLECTIONS)]
        mutable = own if own and key is not None else False
        result = model.apply(
            variables, *task.inputs(batch), train=key is not None, rngs=streams, mutable=mutable
        )
        outputs, changes = result if mutable else (result, {})
        return task.loss(outputs, batch), changes

    def one(state: TrainState, examples: Any, order: jax.Array) -> tuple[TrainState, jax.Array]:
        batch = order[state.step % order.shape[0]]
        key = dropout_key(state.key, state.step)
        if workers.axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(workers.axis_name))
        chosen = jax.tree.map(lambda leaf: leaf[batch], examples)
        if task.augments:
            chosen = task.augmented(chosen, jax.random.fold_in(key, 1))
        held = state.variables if seen is None else seen(state.variables, state.opt_state)
        takes = [
            side_by_side(
                jax.value_and_grad(functools.partial(loss_and_changes, turn), has_aux=True)
            )
            for turn in turns
        ]
        if len(takes) == 1:
            (value, changes), gradients = takes[0](held, chosen, key)
        else:
            (value, changes), gradients = jax.lax.switch(
                state.step % len(takes), takes, held, chosen, key
            )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.variables)
        variables = {**optax.apply_updates(state.variables, updates), **changes}
        if together is not None:
            variables, opt_state = together(variables, opt_state, state.step + 1)
        return TrainState(state.step + 1, variables, opt_state, state.key), value

    def train(
        state: TrainState, examples: Any, order: jax.Array, steps: jax.Array, in_loop: bool = True
    ) -> tuple[TrainState, jax.Array]:
        """Steps of all workers, each with batches of its own."""
        dealt = order.reshape(order.shape[0], workers.count, -1)
        own, loss = workers.each(functools.partial(of_worker, in_loop))(
            (state.variables, state.opt_state), dealt, examples, state.step, state.key, steps
        )
        return TrainState(state.step + steps, own[0], own[1], state.key), loss

    def of_worker(
        in_loop: bool,
        own: tuple[Any, Any],
        order: jax.Array,
        examples: Any,
        step: jax.Array,
        key: jax.Array,
        steps: jax.Array,
    ) -> tuple[tuple[Any, Any], jax.Array]:
        def body(_: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, total = carry
            state, value = one(state, examples, order)
            return varying.over(axes, (state, total + value))

        # On a mesh all of a worker's own is said to differ, also what an exchange has made equal.
        axes = varying.axes_of(own)
        start = varying.over(
            axes, (TrainState(step, own[0], own[1], key), jnp.zeros([], jnp.float32))
        )
        if in_loop:
            state, total = jax.lax.fori_loop(0, steps, body, start)
        else:
            state, total = body(jnp.zeros([], jnp.int32), start)
        mean = total / jnp.maximum(steps, 1).astype(jnp.float32)
        return (state.variables, state.opt_state), mean

    def scores(variables: Any, examples: Any) -> dict[str, jax.Array]:
        mutable = ["carry"] if task.keeps_order else False

        def part(dense: Any, batch: Any) -> tuple[Any, Any]:
            result = model.apply(dense, *task.inputs(batch), train=False, mutable=mutable)
            outputs, changes = result if mutable else (result, {})
            return {**dense, **changes}, task.tally(outputs, batch)

        count = jax.tree.leaves(examples)[0].shape[0]
        rows = task.evaluation_rows or EVALUATION_ROWS
        whole = count - count % rows
        dense, sums = without(variables, *SPARSE_COLLECTIONS), []
        if whole:
            parts = jax.tree.map(lambda x: x[:whole].reshape(-1, rows, *x.shape[1:]), examples)
            dense, found = jax.lax.scan(part, dense, parts)
            sums.append(jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), found))
        if whole < count:
            sums.append(part(dense, jax.tree.map(lambda x: x[whole:], examples))[1])
        return task.scores(jax.tree.map(lambda *leaves: sum(leaves), *sums))

    def angles(
        variables: Any, examples: Any, batch_size: int, paths: tuple[str, ...] = ()
    ) -> dict[str, jax.Array]:
        # Without its taps a row-sparse model has the same gradient in dense form.
        sparse = without(variables, "row_sparse")
        dense = without(variables, *SPARSE_COLLECTIONS)
        return measure.gradient_angles(loss, sparse, dense, examples, batch_size, paths)

    single = jax.jit(functools.partial(train, in_loop=False), donate_argnums=0)
    return Functions(
        loss,
        jax.jit(train, donate_argnums=0),
        functools.partial(_one_by_one, single),
        jax.jit(scores),
        jax.jit(angles, static_argnums=(2, 3)),
    )
