"""A training step with masks against the same step without, and a mask update against a step.

    python -m benchmarks.masks                 on one core; about 5 minutes
    python -m benchmarks.masks --quick         small, seconds; no claim can rest on it

Every row trains: parameters and state go from call to call, donated. Only the wrapper differs.
"""

import datetime
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import command, machine, program, report, timing
from benchmarks.candidate import Candidate
from benchmarks.report import Target
from sparsetrain import masks
from sparsetrain.models import MLP, LeNet5

DENSITY = 0.1
NEVER = 10**8
FAMILY = "step"
# name -> (model, image shape, batch)
CASES: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "MLP 500-500, batch 32": (MLP((500, 500)), (28, 28, 1), 32),
    "MLP 500-500, batch 512": (MLP((500, 500)), (28, 28, 1), 512),
    "MLP 4096, batch 32": (MLP((4096,)), (64, 64, 1), 32),
    "LeNet5, batch 64": (LeNet5(), (28, 28, 1), 64),
}
QUICK_CASES = {"MLP 20-20, batch 4": (MLP((20, 20)), (8, 8, 1), 4)}
OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": lambda: optax.adam(optax.constant_schedule(1e-3)),
    "sgd, momentum": lambda: optax.sgd(optax.constant_schedule(1e-2), momentum=0.9),
}
WRAPPED = ("static", "grow_and_prune", "grow_and_prune, fine_tune", "gradual", "rigl")
# A masked step may cost 1.04 dense ones: dense over masked must be at least 1 / 1.04.
TARGETS = tuple(
    Target(f"{case}, {optimizer}", name, "dense", 1 / 1.04, 1 / 1.02)
    for case in CASES
    for optimizer in OPTIMIZERS
    for name in WRAPPED
)


def wrap(name: str, make: Callable[[], Any], params: Any, due: bool) -> Any:
    """The optimizer of a row; with `due`, masks change at every update."""
    key, every = jax.random.key(1), 1 if due else NEVER
    if name == "dense":
        return make()
    if name == "static":
        return masks.static(make(), DENSITY, key=key)
    if name.startswith("grow_and_prune"):
        parts = masks.partitions({layer: f"{layer}/.*" for layer in params})
        fine_tune = make() if name.endswith("fine_tune") else None
        return masks.grow_and_prune(
            make(), DENSITY, parts, steps_per_phase=every, phases=8, key=key, fine_tune=fine_tune
        )
    if name == "gradual":
        # Begins at 1, so that masks are sparse; then again at the end.
        return masks.gradual(
            make(), DENSITY, begin=1, end=NEVER, every=every, initial_density=DENSITY
        )
    return masks.rigl(make(), DENSITY, key=key, every=every, until=10 * NEVER)


def trained(
    case: tuple[Any, tuple[int, ...], int], make: Callable[[], Any], name: str, due: bool = False
) -> Candidate:
    """A row that trains on and on."""
    model, shape, batch = case
    inputs = [jax.random.normal(jax.random.key(i), (batch, *shape)) for i in range(4)]
    labels = [jax.random.randint(jax.random.key(9 + i), (batch,), 0, 10) for i in range(4)]
    params = model.init(jax.random.key(0), inputs[0][:1])["params"]
    tx = wrap(name, make, params, due)
    state = tx.init(params)
    if name != "dense":
        params = masks.apply(params, state)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = model.apply({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        updates, state = tx.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    held = list(jax.tree.map(jnp.copy, (params, state)))
    compiled = step.lower(*held, inputs[0], labels[0]).compile()
    watched = tuple(leaf.shape for leaf in jax.tree.leaves(params) if leaf.size > 1e5)
    facts = program.read(compiled, watched)

    def run(number: int) -> Any:
        held[:] = compiled(*held, inputs[number % 4], labels[number % 4])
        return held

    if name == "dense":
        return Candidate(name, run, FAMILY, baseline="dense", program=facts)
    return Candidate(
        f"{name}, masks change" if due else name, run, FAMILY, against=("dense",), program=facts
    )


def compilations() -> int:
    """How often a step over a whole schedule of grow-and-prune is compiled: once."""
    model, shape, batch = QUICK_CASES["MLP 20-20, batch 4"]
    params = model.init(jax.random.key(0), jnp.ones((1, *shape)))["params"]
    parts = masks.partitions({layer: f"{layer}/.*" for layer in params})
    tx = masks.grow_and_prune(
        optax.adam(1e-3), DENSITY, parts, steps_per_phase=2, phases=6, key=jax.random.key(0)
    )
    state = tx.init(params)
    update: Any = jax.jit(tx.update)
    for _ in range(16):
        updates, state = update(params, state, params)
        params = optax.apply_updates(params, updates)
    del batch
    return update._cache_size()


def run(quick: bool = False) -> dict[str, Any]:
    """Times all cases and prints the tables.

    Args:
      quick: one small case and few calls.

    Returns:
      The record that is written as JSON.
    """
    effort = timing.QUICK if quick else timing.Effort(rounds=10, block_s=0.3, most_calls=60)
    records: list[dict[str, Any]] = []
    for title, case in (QUICK_CASES if quick else CASES).items():
        for optimizer, make in OPTIMIZERS.items():
            group = f"{title}, {optimizer}"
            found = [trained(case, make, name) for name in ("dense", *WRAPPED)]
            found += [trained(case, make, name, due=True) for name in ("gradual", "rigl")]
            functions = {candidate.name: candidate.run for candidate in found}
            times = timing.measure(functions, jax.block_until_ready, effort)
            rows = report.rows(group, found, times)
            records += rows
            print(f"\n## {group}\n{report.table(rows)}", flush=True)
            jax.clear_caches()
    results = report.check(TARGETS, records)
    print(f"\n{report.verdicts(results)}\n\ncompilations over a schedule: {compilations()}")
    return {
        "benchmark": "masks",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
        "effort": effort._asdict(),
        "compilations": compilations(),
        "targets": results,
        "rows": records,
    }


if __name__ == "__main__":
    command.main(__doc__, run, "masks_cpu.json")
