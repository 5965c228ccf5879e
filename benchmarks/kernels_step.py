"""Cases of whole training steps: an MLP whose wide layers go backward through few blocks of columns."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.kernels_case import INPUTS, Candidates, Case, available, fresh_key
from sparsetrain import backward, kernels
from sparsetrain.kernels import dispatch

DENSE = "dense, optax.sgd"
RATE = 1e-3
DECAY = 0.1
DTYPE = jnp.bfloat16


class Sizes(NamedTuple):
    """An MLP inputs-hidden-outputs on B rows; blocks of columns and the share of them that is kept."""

    rows: int
    inputs: int
    hidden: int
    outputs: int
    block: int
    density: float


TARGET = Sizes(8192, 4096, 16384, 4096, 128, 0.05)
ON_CPU = Sizes(512, 512, 2048, 512, 16, 0.05)
QUICK = Sizes(8, 32, 64, 32, 16, 0.3)


class TwoLayers(nn.Module):
    """Dense, ReLU, dense."""

    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        options: dict[str, Any] = {"dtype": DTYPE, "param_dtype": DTYPE}
        h = nn.relu(nn.Dense(self.hidden, name="wide", **options)(x))
        return nn.Dense(self.outputs, name="back", **options)(h)


def cases(quick: bool) -> Iterator[Case]:
    """The one of the targets; smaller on a CPU.

    Args:
      quick: a tiny one.
    """
    sizes = QUICK if quick else ON_CPU if jax.default_backend() == "cpu" else TARGET
    weights = sizes.hidden * (sizes.inputs + sizes.outputs)
    yield Case(
        "training step",
        f"MLP {sizes.inputs}-{sizes.hidden}-{sizes.outputs}, B={sizes.rows}, {sizes.density:.0%} "
        f"in blocks of {sizes.block}",
        6 * weights,  # read forward and backward, and written
        round(2 * sizes.rows * weights * (1 + 2 * sizes.density)),
        DENSE,
        functools.partial(candidates, sizes),
        functools.partial(check, sizes),
    )


class Step(NamedTuple):
    """A training step.

    Attributes:
      start: () -> what a step carries.
      step: (what it carries, batch) -> (the same, loss).
      prefers: implementation that is preferred while it is compiled.
    """

    start: Callable[[], Any]
    step: Callable[[Any, Any], tuple[Any, jax.Array]]
    prefers: str | None = None


def steps(sizes: Sizes) -> dict[str, Step]:
    """The dense one, and two that go backward through few blocks, by XLA and by what runs here."""
    model = TwoLayers(sizes.hidden, sizes.outputs)
    tx = backward.carry_memory(backward.row_sparse.sgd(RATE))

    def sparse(decay: float) -> Step:
        rule = backward.unified_top_k(sizes.density, decay, block=sizes.block)
        sparsified = backward.linen.sparsify(model, {r".*/kernel": rule}, row_sparse=True)
        return _step(sparsified, tx, sizes)

    found = {DENSE: _step(model, optax.sgd(RATE), sizes), "unified (SBP)": sparse(0.0)}
    if len(available()) > 1:
        found["unified (SBP), xla"] = sparse(0.0)._replace(prefers=dispatch.XLA)
    # Its products are XLA's: what is added to the gradient is in no array that a kernel could read.
    found["unified + memory (MSBP)"] = sparse(DECAY)
    return found


def candidates(sizes: Sizes) -> Candidates:
    """Each with buffers of its own that go from step to step."""
    return {name: _threaded(each, _batches(sizes)) for name, each in steps(sizes).items()}


def check(sizes: Sizes) -> None:
    """The forward pass is the dense one, so the first losses agree to rounding; and the sparse ones learn.

    Raises:
      ValueError: they differ, or a loss does not fall in eight steps on one batch.
    """
    key = fresh_key()
    x = jax.random.normal(key, (sizes.rows, sizes.inputs), DTYPE)
    y = jax.random.normal(jax.random.fold_in(key, 1), (sizes.rows, sizes.outputs), DTYPE)
    losses: dict[str, list[float]] = {}
    for name, each in steps(sizes).items():
        carried, step = jax.jit(each.start)(), _compiled(each)
        losses[name] = []
        for _ in range(8):
            carried, loss = step(carried, (x, y))
            losses[name].append(float(loss))
        first, last = losses[name][0], losses[name][-1]
        if not (abs(first - losses[DENSE][0]) <= 1e-3 * first and last < first):
            raise ValueError(f"{name}: losses {losses[name]}, dense {losses[DENSE]}")


def _batches(sizes: Sizes) -> list[tuple[jax.Array, jax.Array]]:
    keys = jax.random.split(jax.random.key(1), INPUTS)
    return [
        (
            jax.random.normal(key, (sizes.rows, sizes.inputs), DTYPE),
            jax.random.normal(jax.random.fold_in(key, 1), (sizes.rows, sizes.outputs), DTYPE),
        )
        for key in keys
    ]


def _compiled(each: Step) -> Callable[[Any, Any], Any]:
    compiled = jax.jit(each.step, donate_argnums=0)

    def call(carried: Any, batch: Any) -> Any:
        with kernels.prefer(each.prefers):
            return compiled(carried, batch)

    return call


def _threaded(each: Step, batches: Any) -> Callable[[int], Any]:
    held, step = [jax.jit(each.start)()], _compiled(each)

    def call(number: int) -> Any:
        held[0], loss = step(held[0], batches[number % INPUTS])
        return loss

    return call


def _step(model: Any, tx: Any, sizes: Sizes) -> Step:
    def start() -> Any:
        variables = model.init(jax.random.key(0), jnp.zeros((sizes.rows, sizes.inputs), DTYPE))
        return variables, tx.init(variables)

    def step(carried: Any, batch: Any) -> Any:
        variables, state = carried
        x, y = batch

        def loss(variables: Any) -> jax.Array:
            error = model.apply(variables, x).astype(jnp.float32) - y.astype(jnp.float32)
            return jnp.mean(error * error)

        value, grads = jax.value_and_grad(loss)(variables)
        updates, state = tx.update(grads, state, variables)
        return (optax.apply_updates(variables, updates), state), value

    return Step(start, step)
