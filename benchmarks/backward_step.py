"""Training steps of the paper's MLP, forward to optimizer: one a call, and several in a scan."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import program
from benchmarks.backward_layer import DECAY
from benchmarks.candidate import Candidate
from sparsetrain import backward
from sparsetrain.models import MLP

BATCHES = 4  # different batches for single calls, taken in turn; scans take twice `scanned`
RATE = 1e-3
ONE_CALL, SCAN = "one call", "scan"


class StepCase(NamedTuple):
    """An MLP inputs-hidden-hidden-10 and the entries or columns kept in its hidden layers."""

    rows: int
    inputs: int
    hidden: int
    kept: int

    @property
    def title(self) -> str:
        """How tables and results name it."""
        sizes = f"{self.inputs}-{self.hidden}-{self.hidden}-10"
        return f"step of MLP {sizes}, B={self.rows}, k={self.kept}"

    @property
    def density(self) -> float:
        """Fraction of the hidden outputs that is kept."""
        return self.kept / self.hidden

    @property
    def scanned(self) -> int:
        """Steps of a scan; few where a step takes long, for there its start costs nothing."""
        return 20 if self.hidden < 2000 else 5


CASES = (StepCase(32, 784, 500, 20), StepCase(32, 784, 5000, 5), StepCase(32, 784, 5000, 10))
QUICK_CASES = (StepCase(4, 24, 32, 2),)


class Batches(NamedTuple):
    """Images [scanned, B, inputs] and labels [scanned, B], twice; and the first ones singly."""

    stacks: list[tuple[jax.Array, jax.Array]]
    singles: list[tuple[jax.Array, jax.Array]]


def batches(case: StepCase) -> Batches:
    """Random images and labels."""
    rng = np.random.default_rng(0)

    def stack() -> tuple[jax.Array, jax.Array]:
        images = rng.standard_normal((case.scanned, case.rows, case.inputs), dtype=np.float32)
        return jnp.asarray(images), jnp.asarray(rng.integers(0, 10, (case.scanned, case.rows)))

    stacks = [stack(), stack()]
    return Batches(stacks, [(stacks[0][0][i], stacks[0][1][i]) for i in range(BATCHES)])


def candidates(case: StepCase, wanted: str = "") -> Iterator[Candidate]:
    """The rows of a step's table, each in both forms, built one after the other.

    Args:
      case: the network.
      wanted: regular expression; rows that are no baseline are left out unless it is found.
    """
    data = batches(case)
    for name, model, tx, baseline in _table(case):
        if baseline or re.search(wanted, name):
            yield from _both_forms(case, data, name, model, tx, baseline)


def _table(case: StepCase) -> Iterator[tuple[str, Any, optax.GradientTransformation, str]]:
    """(name, model, optimizer, kind of baseline)."""
    model = MLP(hidden=(case.hidden, case.hidden))
    unified = backward.unified_top_k(case.density, DECAY)
    forgetful = backward.unified_top_k(case.density)
    memorized = backward.memorized_top_k(case.density, DECAY)
    top = backward.top_k(case.density)
    union = top.width(case.hidden, case.rows) is not None
    form = "union" if union else "mask"

    def sparse(rule: Any, layout: str | None = None) -> Any:
        options = {} if layout is None else {"row_sparse": True, "kernel_layout": layout}
        return backward.linen.sparsify(model, {r"hidden_\d+/kernel": rule}, **options)

    adam = backward.carry_memory(optax.adam(RATE))
    row_adam = backward.carry_memory(backward.row_sparse.adam(RATE))
    row_sgd = backward.carry_memory(backward.row_sparse.sgd(RATE))
    yield "dense, optax.adam", model, optax.adam(RATE), "adam"
    yield "dense, optax.sgd", model, optax.sgd(RATE), "sgd"
    yield "unified + memory, row_sparse.adam out_in", sparse(unified, "out_in"), row_adam, ""
    yield "unified, row_sparse.adam out_in", sparse(forgetful, "out_in"), row_adam, ""
    yield "unified + memory, row_sparse.adam in_out", sparse(unified, "in_out"), row_adam, ""
    yield "unified + memory, row_sparse.sgd out_in", sparse(unified, "out_in"), row_sgd, ""
    yield "unified + memory, dense dW, optax.adam", sparse(unified), adam, ""
    yield f"top_k {form}, dense dW, optax.adam", sparse(top), adam, ""
    yield f"memorized {form}, dense dW, optax.adam", sparse(memorized), adam, ""
    if union:
        yield "memorized union, row_sparse.adam out_in", sparse(memorized, "out_in"), row_adam, ""


def _both_forms(
    case: StepCase,
    data: Batches,
    name: str,
    model: Any,
    tx: Any,
    baseline: str,
) -> Iterator[Candidate]:
    """The same step alone and scanned; both go on from one state, so that a large model fits."""
    images, _ = data.singles[0]

    # Under jit, so that optimizer states made of the same zeros are still buffers of their own.
    @jax.jit
    def start() -> Any:
        variables = model.init(jax.random.key(0), images)
        return variables, tx.init(variables)

    def step(carried: Any, batch: Any) -> Any:
        variables, state = carried

        def loss(variables: Any) -> jax.Array:
            logits = model.apply(variables, batch[0])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

        value, grads = jax.value_and_grad(loss)(variables)
        updates, state = tx.update(grads, state, variables)
        return (optax.apply_updates(variables, updates), state), value

    def scanned(carried: Any, stack: Any) -> Any:
        return jax.lax.scan(step, carried, stack)

    against = () if baseline else ("sgd",) if "sgd" in name else ("adam",)
    held = [start()]
    shapes = ((case.hidden, case.hidden), (case.inputs, case.hidden))
    forms = ((ONE_CALL, step, data.singles, 1), (SCAN, scanned, data.stacks, case.scanned))
    for family, function, inputs, steps in forms:
        full = f"{name} ({family})"
        compiled = jax.jit(function, donate_argnums=0).lower(held[0], inputs[0]).compile()
        facts = program.read(compiled, shapes)
        _require(facts, full, case, is_sparse=not baseline, is_fast="row_sparse" in name)

        def run(number: int, compiled: Any = compiled, inputs: Any = inputs) -> Any:
            held[0], value = compiled(held[0], inputs[number % len(inputs)])
            return value, held[0]

        yield Candidate(full, run, family, baseline, against, steps, facts)


def _require(
    facts: program.Program, name: str, case: StepCase, *, is_sparse: bool, is_fast: bool
) -> None:
    """Eight products: three forward, three dW, two dx; everything but the batch in place.

    On a CPU the fast path sums a union entry by entry: no products for two dW and one dx.
    """
    kernels = 4 * case.hidden * (case.hidden + case.inputs)
    moments = 1 if "sgd" in name else 3
    on_cpu = jax.default_backend() == "cpu"
    program.require(
        facts,
        name,
        products=5 if on_cpu and is_fast and "union" in name else 8,
        selects=on_cpu and is_sparse,
        in_place=moments * kernels,
        copies=0 if on_cpu and is_fast else None,
    )
