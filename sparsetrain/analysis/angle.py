"""Gradient estimation angle: how far a sparse gradient points away from the true one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics, tree


def _norm(leaves: Sequence[jax.Array], dtype: Any) -> jax.Array:
    """Euclidean norm over a list of arrays, as a scalar of `dtype`."""
    squares = (jnp.sum(jnp.square(leaf)) for leaf in leaves)
    return jnp.sqrt(sum(squares, jnp.zeros((), dtype)))


def _unit(leaves: Sequence[jax.Array], dtype: Any) -> list[jax.Array]:
    """The arrays together scaled to norm 1; NaN where they have no direction."""
    # By the largest entry first, so that the squares neither overflow nor vanish.
    largest = functools.reduce(
        jnp.maximum, [jnp.max(jnp.abs(leaf)).astype(dtype) for leaf in leaves]
    )
    scaled = [leaf.astype(dtype) / largest for leaf in leaves]
    length = _norm(scaled, dtype)
    return [leaf / length for leaf in scaled]


def _between(estimate: Sequence[jax.Array], true: Sequence[jax.Array]) -> jax.Array:
    dtype = functools.reduce(
        jnp.promote_types, [numerics.accumulator_dtype(x.dtype) for x in (*estimate, *true)]
    )
    a, b = _unit(estimate, dtype), _unit(true, dtype)
    apart = _norm([x - y for x, y in zip(a, b, strict=True)], dtype)
    together = _norm([x + y for x, y in zip(a, b, strict=True)], dtype)
    return 2 * jnp.arctan2(apart, together)


def _paired(estimate: Any, true: Any) -> list[tuple[str, jax.Array, jax.Array]]:
    """(path, estimate, true) of every non-empty leaf; refuses trees that do not correspond."""
    names = tree.paths(true)
    if tree.paths(estimate) != names:
        raise ValueError(
            f"estimate has the leaves {tree.paths(estimate)} and true has {names}: give two gradients of the same "
            "parameters (a row-sparse one as its to_dense(kernel.shape))"
        )
    pairs = []
    for name, a, b in zip(names, jax.tree.leaves(estimate), jax.tree.leaves(true), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            raise ValueError(
                f"estimate has shape {jnp.shape(a)} at {name!r} and true has {jnp.shape(b)}: "
                "give two gradients of the same parameters"
            )
        if jnp.size(a):
            pairs.append((name, jnp.asarray(a), jnp.asarray(b)))
    return pairs


def angle(estimate: Any, true: Any) -> jax.Array:
    """Gradient estimation angle between two gradients, each taken as one long vector.

        delta = angle(g, dl/dv) = 2 atan2(|a - b|, |a + b|)
        a = g / |g|,    b = (dl/dv) / |dl/dv|

    The arccos of the cosine would lose half the digits near 0 and pi (in float32 everything below
    3e-4 reads as 0); this form does not. Sums are taken in float32, or float64 where a leaf has it.

    Args:
      estimate: tree of float arrays, any shapes; for example a sparse gradient.
      true: tree of the same structure and shapes.

    Returns:
      Scalar in radians, 0 to pi. NaN, never a number, where a vector has no direction: all its
      entries are zero, or one is not finite.

    Raises:
      ValueError: the trees have different paths or shapes, or hold no entry.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 3.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(angle({"kernel": jnp.array([2.0, 0.0])}, {"kernel": jnp.array([1.0, 1.0])})), 4)
      0.7854
    """
    pairs = _paired(estimate, true)
    if not pairs:
        raise ValueError("estimate and true hold no entry; an angle needs at least one")
    return _between([a for _, a, _ in pairs], [b for _, _, b in pairs])


def angle_per_leaf(estimate: Any, true: Any) -> dict[str, jax.Array]:
    """Gradient estimation angle of every parameter by itself.

        delta_l = angle(g_l, dl/dv_l)

    Args:
      estimate: tree of float arrays, any shapes.
      true: tree of the same structure and shapes.

    Returns:
      '/'-joined path -> scalar in radians, as `angle` gives it. Empty arrays are left out.

    Raises:
      ValueError: the trees have different paths or shapes.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 3.

    Example:
      >>> import jax.numpy as jnp
      >>> true = {"bias": jnp.array([1.0]), "kernel": jnp.array([3.0, 4.0])}
      >>> estimate = {"bias": jnp.array([2.0]), "kernel": jnp.array([0.0, 4.0])}
      >>> {path: round(float(a), 4) for path, a in angle_per_leaf(estimate, true).items()}
      {'bias': 0.0, 'kernel': 0.6435}
    """
    return {name: _between([a], [b]) for name, a, b in _paired(estimate, true)}


@functools.partial(jax.jit, static_argnames=("loss", "batch_size"))
def full_data_gradient(
    loss: Callable[..., jax.Array], params: Any, data: Sequence[Any], batch_size: int
) -> Any:
    """Gradient of the mean loss over a whole data set, a chunk at a time.

        dl/dv = (1/N) sum_c N_c grad l_c(v),      l_c: mean loss of chunk c with N_c examples

    Every example counts, the ones of a partial last chunk too. With a sparse backward rule this is
    the mean of the chunks' estimates, which does depend on `batch_size` (and on the memory, which
    is not updated here): use the training batch size. For the true gradient any size does.

    Args:
      loss: (params, *chunk) -> scalar mean loss of the chunk, without randomness. Compiled once for
        each function object, so pass the same one again, not a new lambda.
      params: what the gradient is taken by, a tree of float arrays. Close over other collections,
        memories included.
      data: arrays (or trees of arrays) that share their leading axis of N examples; passed to
        `loss` in this order.
      batch_size: examples a chunk.

    Returns:
      Tree like `params`, summed in float32 and left so (float64 where a parameter has it).

    Raises:
      ValueError: no data, leading axes that differ, or batch_size < 1.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 3.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(params, x, y):
      ...     return jnp.mean((x * params["w"] - y) ** 2)
      >>> x = jnp.array([1.0, 2.0, 3.0])
      >>> gradient = full_data_gradient(loss, {"w": jnp.array(0.0)}, (x, 2 * x), batch_size=2)
      >>> round(float(gradient["w"]), 4)                                        # -4 mean(x^2)
      -18.6667
    """
    sizes = sorted({jnp.shape(leaf)[0] for leaf in jax.tree.leaves(data)})
    if len(sizes) != 1 or sizes[0] == 0:
        raise ValueError(
            f"data: leading axes of {sizes or 'no'} examples; give arrays that agree and are not empty"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1, the examples of a chunk")
    examples = sizes[0]
    chunks, rest = divmod(examples, batch_size)

    def add(sums: Any, start: jax.Array, size: int) -> Any:
        chunk = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), data)
        gradient = jax.grad(loss)(params, *chunk)
        return jax.tree.map(lambda s, g: s + g.astype(s.dtype) * (size / examples), sums, gradient)

    def step(sums: Any, start: jax.Array) -> tuple[Any, None]:
        return add(sums, start, batch_size), None

    sums = jax.tree.map(
        lambda p: jnp.zeros(jnp.shape(p), numerics.accumulator_dtype(p.dtype)), params
    )
    if chunks:
        sums, _ = lax.scan(step, sums, batch_size * jnp.arange(chunks, dtype=jnp.int32))
    return add(sums, jnp.int32(chunks * batch_size), rest) if rest else sums
