"""Four workers that one device simulates: batched, or a worker at a time; a step a program, or steps in a loop.

    python -m benchmarks.workers             ResNet-8 and LeNet5 of 16 images a worker, on one core; minutes
    python -m benchmarks.workers --quick     LeNet5 of 4 images, seconds; no claim can rest on it

A step takes every worker's gradient at weights of its own, as after local steps, and goes down. The baseline is what
`jax.vmap` makes of the same function.
"""

import datetime
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import command, machine, program, report, timing
from benchmarks.candidate import Candidate
from benchmarks.report import Target
from sparsetrain import programs
from sparsetrain.models import LeNet5, ResNet
from sparsetrain.side_by_side import side_by_side

WORKERS, IMAGES, QUICK_IMAGES = 4, 16, 4
INPUTS = 4  # Calls must not repeat the one before.
RATE = 0.01
MODELS = {"ResNet-8": (ResNet(blocks=1), (32, 32, 3)), "LeNet5": (LeNet5(), (28, 28, 1))}
QUICK_MODELS = ("LeNet5",)
BATCHED, OURS = "vmap", "side by side"
# The loop of a run makes steps one by one where a model convolves; a loop is there to be compared with.
TARGETS = tuple(Target(name, OURS, BATCHED, 1.5, 3) for name in MODELS)

Step = Callable[[Any, jax.Array, jax.Array], Any]


def step(model: Any, wrap: Callable[[Any], Any], in_loop: bool) -> Step:
    """One step of all workers.

    Args:
      model: of images.
      wrap: of the gradient of one worker.
      in_loop: whether the step is the only one of a loop.

    Returns:
      (variables [W, ...], images [W, B, H, W, C], labels [W, B]) -> variables.
    """

    def loss(variables: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = model.apply(variables, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradient = jax.vmap(wrap(jax.grad(loss)))

    def after(variables: Any, images: jax.Array, labels: jax.Array) -> Any:
        found = gradient(variables, images, labels)
        return jax.tree.map(lambda leaf, down: leaf - RATE * down, variables, found)

    def in_a_loop(variables: Any, images: jax.Array, labels: jax.Array) -> Any:
        # How often is not known to the compiler, which would unroll it.
        often = jnp.minimum(labels.size, 1)
        return jax.lax.fori_loop(0, often, lambda _, held: after(held, images, labels), variables)

    return in_a_loop if in_loop else after


class _Steps:
    """A step that goes on from what it left, so that donated arrays are never missed."""

    def __init__(self, compiled: Any, held: Any, inputs: list[tuple[jax.Array, jax.Array]]):
        self._compiled, self._held, self._inputs = compiled, held, inputs

    def __call__(self, number: int) -> Any:
        self._held = self._compiled(self._held, *self._inputs[number % INPUTS])
        return self._held


def run_model(name: str, images: int, effort: timing.Effort) -> dict[str, Any]:
    """Measures one model and prints.

    Returns:
      Its rows.
    """
    model, shape = MODELS[name]
    rows = WORKERS, images
    inputs = [
        (
            jax.random.normal(jax.random.fold_in(key, 0), (*rows, *shape)),
            jax.random.randint(jax.random.fold_in(key, 1), rows, 0, 10),
        )
        for key in jax.random.split(jax.random.key(0), INPUTS)
    ]
    keys = jax.random.split(jax.random.key(1), WORKERS)
    begin = jax.vmap(lambda key: model.init(key, inputs[0][0][0]))(keys)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(begin))
    found = []
    for in_loop in (False, True):
        for kind, wrap in ((BATCHED, lambda function: function), (OURS, side_by_side)):
            function = step(model, wrap, in_loop)
            if not programs.convolves(function, begin, *inputs[0]):
                raise RuntimeError(f"{name}: no convolution is left (dead code?)")
            jitted = jax.jit(function, donate_argnums=0)
            compiled = jitted.lower(begin, *inputs[0]).compile()
            facts = program.read(compiled)
            title = f"{kind}, in a loop" if in_loop else kind
            program.require(facts, title, products=0, in_place=size)
            is_base = title == BATCHED
            found.append(
                Candidate(
                    title,
                    _Steps(compiled, jax.tree.map(jnp.copy, begin), inputs),
                    "step",
                    baseline=BATCHED if is_base else "",
                    against=() if is_base else (BATCHED,),
                    program=facts,
                )
            )
    functions = {candidate.name: candidate.run for candidate in found}
    times = timing.measure(functions, jax.block_until_ready, effort)
    table = report.rows(name, found, times)
    title = f"{name}, {WORKERS} workers of {images} images"
    print(f"\n## {title}\n{report.table(table)}\n", flush=True)
    return {"model": name, "workers": WORKERS, "images": images, "rows": table}


def run(quick: bool = False) -> dict[str, Any]:
    """Measures all models.

    Args:
      quick: few images and few calls.

    Returns:
      The record that is written as JSON.
    """
    # A batched step in a loop takes seconds.
    effort = timing.QUICK if quick else timing.Effort(rounds=7)
    names = QUICK_MODELS if quick else tuple(MODELS)
    parts = [run_model(name, QUICK_IMAGES if quick else IMAGES, effort) for name in names]
    results = (
        [] if quick else report.check(TARGETS, [row for part in parts for row in part["rows"]])
    )
    if results:
        print(f"\n## Targets\n{report.verdicts(results)}")
    return {
        "benchmark": "workers",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
        "effort": effort._asdict(),
        "targets": results,
        "parts": parts,
    }


if __name__ == "__main__":
    command.main(__doc__, run, "workers_cpu.json")
