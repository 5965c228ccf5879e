"""Which examples make up a batch: a function of key and step, so a resumed run sees the same.

Each epoch is a permutation of its own. A last batch that would be partial is dropped; its examples
turn up in other batches of the epochs that follow.
"""

import operator

import jax
import jax.numpy as jnp


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Number of whole batches in an epoch, floor(examples / batch_size).

    Args:
      examples: N.
      batch_size: B, 1 <= B <= N.

    Returns:
      N // B, at least 1.

    Raises:
      ValueError: the batch is empty or larger than the data set.

    Example:
      >>> steps_per_epoch(examples=1000, batch_size=32)
      31
    """
    examples, batch_size = operator.index(examples), operator.index(batch_size)
    if not 1 <= batch_size <= examples:
        raise ValueError(
            f"batch_size={batch_size}: must lie in 1..{examples}, the number of examples"
        )
    return examples // batch_size


def epoch_permutation(key: jax.Array, epoch: jax.typing.ArrayLike, examples: int) -> jax.Array:
    """Order of the examples in one epoch: permutation(fold_in(key, epoch)).

    A loop that takes this once per epoch and slices it spares the sort that `batch_indices` does at
    every step.

    Args:
      key: of the data, the same for the whole run.
      epoch: integer scalar, may be traced.
      examples: N, static.

    Returns:
      int32[N], a permutation of 0..N-1.

    Example:
      >>> sorted(epoch_permutation(jax.random.key(0), 3, 5).tolist())
      [0, 1, 2, 3, 4]
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), examples).astype(jnp.int32)


def batch_indices(
    key: jax.Array, step: jax.typing.ArrayLike, examples: int, batch_size: int
) -> jax.Array:
    """Examples of the batch at a step, entries step mod S of the permutation of epoch step // S.

    S = `steps_per_epoch(examples, batch_size)`. Works inside `jax.jit` with a traced step.

    Args:
      key: of the data, the same for the whole run.
      step: integer scalar >= 0, counted over the whole run, may be traced.
      examples: N, static.
      batch_size: B, static.

    Returns:
      int32[B], indices into the examples, all different.

    Raises:
      ValueError: batch_size does not lie in 1..N.

    Example:
      >>> batch_indices(jax.random.key(0), 17, examples=100, batch_size=4).shape
      (4,)
    """
    steps = steps_per_epoch(examples, batch_size)
    step = jnp.asarray(step)
    order = epoch_permutation(key, step // steps, examples)
    return jax.lax.dynamic_slice_in_dim(order, (step % steps) * batch_size, batch_size)
