"""A whole step of error feedback on the tensors of ResNet-50: add, select, send, remember."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import program
from benchmarks.candidate import Candidate
from sparsetrain import compress

BASELINE = "copy of the tree"
GRADIENTS = 2  # taken in turn, so that no call repeats the one before
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks and width of the stages of ResNet-50


def resnet50_shapes() -> list[tuple[int, ...]]:
    """The 161 tensors of ResNet-50: kernels, and scale and bias of every batch norm.

    Example:
      >>> shapes = resnet50_shapes()
      >>> len(shapes), round(sum(int(np.prod(shape)) for shape in shapes) / 1e6, 1)
      (161, 25.6)
    """
    shapes: list[tuple[int, ...]] = [(7, 7, 3, 64), (64,), (64,)]
    inputs = 64
    for blocks, width in STAGES:
        outputs = 4 * width
        for block in range(blocks):
            kernels = [(1, 1, inputs, width), (3, 3, width, width), (1, 1, width, outputs)]
            if block == 0:
                kernels.append((1, 1, inputs, outputs))
            for kernel in kernels:
                shapes += [kernel, (kernel[-1],), (kernel[-1],)]
            inputs = outputs
    return [*shapes, (inputs, 1000), (1000,)]


def quick_shapes() -> list[tuple[int, ...]]:
    """A few small tensors."""
    return [(3, 3, 4, 8), (8,), (64, 10)]


def gradients(shapes: list[tuple[int, ...]], seed: int) -> list[jax.Array]:
    """Random gradients; the scale of a tensor varies over two decades, as in a network."""
    rng = np.random.default_rng(seed)
    scales = 10 ** np.random.default_rng(0).uniform(-2, 0, len(shapes))
    return [
        jnp.asarray(scale * rng.standard_normal(shape, dtype=np.float32))
        for scale, shape in zip(scales, shapes, strict=True)
    ]


def compressors(density: float) -> dict[str, compress.Compressor]:
    """What is compared."""
    return {
        "top_k of every tensor": compress.top_k(density),
        "DLS(1)": compress.layerwise(density, steps=1),
        "global_top_k": compress.global_top_k(density),
        "ok_top_k": compress.ok_top_k(density),
        "sparse_binary": compress.sparse_binary(density),
    }


def candidates(
    shapes: list[tuple[int, ...]], density: float, only: Sequence[str] | None = None
) -> Iterator[Candidate]:
    """The rows of the table, or the copy and some; states are donated, so a step works in place where it can."""
    inputs = [gradients(shapes, seed) for seed in range(GRADIENTS)]

    copied = [np.asarray(leaf) for leaf in inputs[0]]
    room = [np.empty_like(leaf) for leaf in copied]

    def copy(number: int) -> None:
        del number
        for target, source in zip(room, copied, strict=True):
            np.copyto(target, source)

    yield Candidate(BASELINE, copy, "tree", BASELINE)
    for name, compressor in compressors(density).items():
        if only and name not in only:
            continue
        tx = compress.exchange(compressor)
        yield Candidate(name, _step(tx, inputs), "tree", "", (BASELINE,))


def _step(tx: optax.GradientTransformation, inputs: list[Any]) -> Any:
    # Under jit, so that equal zeros are buffers of their own and can be donated.
    held = [jax.jit(tx.init)(inputs[0])]

    @functools.partial(jax.jit, donate_argnums=1)
    def update(gradient: Any, state: Any) -> Any:
        updates, state = tx.update(gradient, state)
        # The state first: the first output that fits gets a donated buffer, and a copy if it is
        # not the one that belongs there.
        return state, updates

    compiled = update.lower(inputs[0], held[0]).compile()
    facts = program.read(compiled)
    largest = max(leaf.nbytes for leaf in inputs[0])
    program.require(facts, "exchange", products=0, in_place=largest)

    def run(number: int) -> Any:
        held[0], updates = compiled(inputs[number % len(inputs)], held[0])
        return updates

    return run
