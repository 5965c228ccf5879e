"""Cases of products: the backward pass over chosen blocks of columns, and matrices of which few blocks live."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kernels_case import (
    INPUTS,
    Candidates,
    Case,
    available,
    fresh_key,
    hold_close,
)
from sparsetrain import kernels, selection
from sparsetrain.kernels.block_column_matmul import shapes as column_shapes
from sparsetrain.kernels.block_sparse_matmul import shapes as sparse_shapes
from sparsetrain.kernels.block_sparse_matmul import spread

DENSE = "dense"
DTYPE = jnp.bfloat16
ROUNDING = 2.0**-8  # of bfloat16; results are sums in float32 that are rounded once


def cases(quick: bool) -> Iterator[Case]:
    """One after the other.

    Args:
      quick: small arrays.
    """
    for columns in [column_shapes.SMALL] if quick else column_cases():
        rows, outputs, inputs, block, kept = columns
        share = kept * block / outputs
        yield Case(
            "unified backward",
            f"{rows} x {outputs} x {inputs}, {share:.1%} in blocks of {block}",
            2 * rows * (outputs + 2 * inputs),
            round(4 * rows * outputs * inputs * share),
            DENSE,
            functools.partial(unified, *columns),
            functools.partial(check_unified, *columns),
        )
    for shape in [sparse_shapes.SMALL] if quick else sparse_cases():
        rows, inputs, outputs, block, share = shape
        for is_both, title in ((False, "forward"), (True, "forward and backward")):
            yield Case(
                f"block_sparse_matmul, {title}",
                f"{rows} x {inputs} x {outputs}, {share:.0%} of blocks of {block}",
                2 * rows * (inputs + outputs) * (2 if is_both else 1),
                round((6 if is_both else 2) * rows * inputs * outputs * share),
                DENSE,
                functools.partial(block_sparse, *shape, is_both=is_both),
                functools.partial(check_block_sparse, *shape),
            )


def column_cases() -> list[tuple[int, int, int, int, int]]:
    """The shapes of the targets; on a CPU an eighth of their rows and a quarter of their columns."""
    found = [column_shapes.TENTH, column_shapes.TWENTIETH, column_shapes.WIDE_TWENTIETH]
    if jax.default_backend() != "cpu":
        return found
    return [
        (rows // 8, outputs // 4, inputs // 4, block // 4, kept)
        for rows, outputs, inputs, block, kept in found
    ]


def sparse_cases() -> list[tuple[int, int, int, int, float]]:
    """The shapes of the targets; on a CPU an eighth of their rows and a quarter of their columns."""
    found = [sparse_shapes.TENTH, sparse_shapes.TENTH_NARROW]
    if jax.default_backend() != "cpu":
        return found
    return [
        (rows // 8, inputs // 4, outputs // 4, block // 4, share)
        for rows, inputs, outputs, block, share in found
    ]


def unified(rows: int, outputs: int, inputs: int, block: int, kept: int) -> Candidates:
    """dx and dW: dense, with a masked operand, and over the blocks that the scores of columns choose.

    The choice is part of the time, dW stays in compact rows.
    """
    cotangents = [_normal(i, (rows, outputs)) for i in range(INPUTS)]
    x, w = _normal(10, (rows, inputs)), _normal(11, (outputs, inputs))

    def dense(g: jax.Array) -> Any:
        return _dense_backward(g, x, w)

    def masked(g: jax.Array) -> Any:
        blocks = _blocks(g, block, kept)
        mask = jnp.zeros(outputs // block, bool).at[blocks].set(True)
        return _dense_backward(jnp.where(jnp.repeat(mask, block), g, 0), x, w)

    def chosen(g: jax.Array, implementation: str) -> Any:
        return _sparse_backward(g, x, w, _blocks(g, block, kept), block, implementation)

    found = {DENSE: _over(cotangents, dense), "masked": _over(cotangents, masked)}
    for name in available():
        found[name] = _over(cotangents, functools.partial(chosen, implementation=name))
    return found


def check_unified(rows: int, outputs: int, inputs: int, block: int, kept: int) -> None:
    """Against dense products of float32 with a masked operand."""
    key = fresh_key()
    g, x, w = (
        jax.random.normal(jax.random.fold_in(key, i), shape, DTYPE)
        for i, shape in enumerate([(rows, outputs), (rows, inputs), (outputs, inputs)])
    )
    blocks = _blocks(g, block, kept)
    columns = (blocks[:, None] * block + jnp.arange(block)[None]).reshape(-1)
    few = g[:, columns].astype(jnp.float32)
    with jax.default_matmul_precision("highest"):
        wanted = (few @ w[columns].astype(jnp.float32), few.T @ x.astype(jnp.float32))
    for name in available():
        found = _sparse_backward(g, x, w, blocks, block, name)
        hold_close(name, found, wanted, ROUNDING)


def block_sparse(
    rows: int, inputs: int, outputs: int, block: int, share: float, is_both: bool
) -> Candidates:
    """The product, or it and its two gradients: dense, masked by XLA, and over the live blocks."""
    examples = [_normal(i, (rows, inputs)) for i in range(INPUTS)]
    live = _live(inputs // block, outputs // block, share)
    w = jnp.where(spread(live, (inputs, outputs)), _normal(10, (inputs, outputs)), 0)

    def both(product: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[[jax.Array], Any]:
        def run(x: jax.Array) -> Any:
            if not is_both:
                return product(x, w)
            y, pull = jax.vjp(product, x, w)
            return pull(y)

        return run

    found = {DENSE: _over(examples, both(_product))}
    for name in available():
        product = functools.partial(kernels.block_sparse_matmul, live=live, implementation=name)
        found["masked (xla)" if name == "xla" else name] = _over(examples, both(product))
    return found


def check_block_sparse(rows: int, inputs: int, outputs: int, block: int, share: float) -> None:
    """Product and gradients against dense products of float32 with a masked matrix."""
    key = fresh_key()
    x, w, dy = (
        jax.random.normal(jax.random.fold_in(key, i), shape, DTYPE)
        for i, shape in enumerate([(rows, inputs), (inputs, outputs), (rows, outputs)])
    )
    live = _live(inputs // block, outputs // block, share)
    mask = spread(live, w.shape)
    wide_x, wide_w, wide_dy = (each.astype(jnp.float32) for each in (x, jnp.where(mask, w, 0), dy))
    with jax.default_matmul_precision("highest"):
        wanted = (wide_x @ wide_w, wide_dy @ wide_w.T, jnp.where(mask, wide_x.T @ wide_dy, 0))
    for name in available():
        y, pull = jax.vjp(
            functools.partial(kernels.block_sparse_matmul, live=live, implementation=name), x, w
        )
        hold_close(name, (y, *pull(dy)), wanted, ROUNDING)


def _over(operands: list[jax.Array], function: Callable[[jax.Array], Any]) -> Callable[[int], Any]:
    compiled = jax.jit(function)
    return lambda number: compiled(operands[number % INPUTS])


def _normal(seed: int, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, DTYPE)


def _live(down: int, across: int, share: float) -> jax.Array:
    flags = np.zeros(down * across, bool)
    flags[: max(1, round(share * flags.size))] = True
    return jnp.asarray(np.random.default_rng(0).permutation(flags).reshape(down, across))


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32).astype(DTYPE)


def _dense_backward(g: jax.Array, x: jax.Array, w: jax.Array) -> Any:
    return _product(g, w), _product(g.T, x)


def _blocks(g: jax.Array, block: int, kept: int) -> jax.Array:
    scores = jnp.sum(selection.column_scores(g).reshape(-1, block), axis=1)
    return jax.lax.top_k(scores, kept)[1]


def _sparse_backward(
    g: jax.Array, x: jax.Array, w: jax.Array, blocks: jax.Array, block: int, implementation: str
) -> Any:
    options: dict[str, Any] = {"block": block, "implementation": implementation}
    return kernels.block_column_matmul(g, w, blocks, **options), kernels.block_column_outer(
        g, x, blocks, **options
    )
