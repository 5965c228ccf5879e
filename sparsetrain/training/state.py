"""What a training step reads and writes, and all that a checkpoint must hold."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsetrain import masks


class TrainState(NamedTuple):
    """The whole of a run between two steps.

    The key never changes: each use folds the step and its purpose into it, so a restored state
    needs no other position to draw the same batches and the same dropout again.

    Attributes:
      step: int32 [], optimizer steps done.
      variables: {"params": ..., "memory": ...} and the model's own collections.
      opt_state: state of the optimizer.
      key: typed PRNG key of the run.
    """

    step: jax.Array
    variables: Any
    opt_state: Any
    key: jax.Array


def create(
    model: Any, optimizer: optax.GradientTransformation, inputs: Any, seed: int, chosen: Any = None
) -> TrainState:
    """The state before the first step.

    Args:
      model: anything with linen's `init(key, *inputs)`, sparsified or not.
      optimizer: transformation of the whole variables, for instance from `backward.carry_memory`.
      inputs: [B, ...] one batch of model inputs, or a tuple of several; only shape and dtype matter. B is
        the training batch size, because a slot memory takes its number of rows from here.
      seed: fixes initialisation, order of the data and dropout.
      chosen: first variables -> masks that take the place of the optimizer's; None for its own.

    Returns:
      A `TrainState` at step 0.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from sparsetrain.models import MLP
      >>> state = create(MLP(hidden=(4,)), optax.sgd(0.1), jnp.zeros([2, 3]), seed=0)
      >>> int(state.step), state.variables["params"]["hidden_0"]["kernel"].shape
      (0, (3, 4))
    """
    key = jax.random.key(seed)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    variables = model.init(jax.random.fold_in(key, 0), *inputs)
    opt_state = optimizer.init(variables)
    if chosen is not None:
        own = chosen(variables)
        opt_state = jax.tree.map(
            lambda node: node._replace(masks=own) if isinstance(node, masks.MaskState) else node,
            opt_state,
            is_leaf=lambda node: isinstance(node, masks.MaskState),
        )
    if masks.are_in(opt_state):
        variables = masks.apply(variables, opt_state)
    return TrainState(jnp.zeros([], jnp.int32), variables, opt_state, key)


def data_key(key: jax.Array) -> jax.Array:
    """Key of the order of the examples."""
    return jax.random.fold_in(key, 1)


def dropout_key(key: jax.Array, step: jax.Array) -> jax.Array:
    """Key of one step's dropout."""
    return jax.random.fold_in(jax.random.fold_in(key, 2), step)
