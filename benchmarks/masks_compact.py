"""Compact storage of sparse partitions against the masked form: bytes, peaks and the time of a step.

    python -m benchmarks.masks_compact             four layers of 1024 x 1024, on one core; minutes
    python -m benchmarks.masks_compact --quick     small layers, seconds; no claim can rest on it

C-GaP at 90% sparsity in four equal partitions, with Adam. Bytes are counted in copies of what dense
training holds between steps: parameters and both moments.
"""

import datetime
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import command, machine, program, report, timing
from benchmarks.candidate import Candidate
from benchmarks.report import Target
from sparsetrain import masks

LAYERS, WIDTH, QUICK_WIDTH = 4, 1024, 64
BATCHES = (32, 256)
DENSITY = 0.1
BASELINE = "masked"
# A compact step may take 1.25 times as long as a masked one.
TARGETS = tuple(Target(f"batch {size}", "compact, one dense", BASELINE, 0.8, 1) for size in BATCHES)
MOST_BYTES = 0.37
# Calls must not repeat the one before.
INPUTS = 4


def setting(width: int) -> tuple[Any, dict[str, Any]]:
    """The wrapper, and parameters of `LAYERS` layers."""
    names = [f"layer_{number}" for number in range(LAYERS)]
    keys = jax.random.split(jax.random.key(0), LAYERS)
    params = {
        name: {"kernel": jax.random.normal(key, (width, width)) / width**0.5}
        for name, key in zip(names, keys, strict=True)
    }
    parts = masks.partitions({name: rf"{name}/.*" for name in names})
    tx = masks.grow_and_prune(
        optax.adam(1e-3), DENSITY, parts, steps_per_phase=2, phases=LAYERS, key=jax.random.key(1)
    )
    return tx, params


def loss(params: Any, x: jax.Array) -> jax.Array:
    """Mean square of a network with one matrix a layer."""
    for layer in params.values():
        x = jnp.tanh(x @ layer["kernel"])
    return jnp.mean(jnp.square(x - 0.5))


def bytes_of(*trees: Any) -> int:
    """Bytes of all arrays, each counted once."""
    return sum({id(leaf): leaf.nbytes for leaf in jax.tree.leaves(trees)}.values())


def peak_bytes(compiled: Any) -> int:
    """What a program holds at the most: arguments, outputs that are not in place, scratch memory."""
    sizes = compiled.memory_analysis()
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return held + sizes.temp_size_in_bytes


class _Steps:
    """A step that goes on from what it left, so that donated arrays are never missed."""

    def __init__(self, compiled: Any, held: tuple[Any, ...], inputs: list[jax.Array]):
        self._compiled, self._held, self._inputs = compiled, held, inputs

    def __call__(self, number: int) -> Any:
        *held, value = self._compiled(*self._held, self._inputs[number % INPUTS])
        self._held = tuple(held)
        return self._held, value


def run_batch(size: int, width: int, effort: timing.Effort) -> dict[str, Any]:
    """Measures at one batch size and prints.

    Returns:
      Rows of times, and `bytes`: name -> copies of what dense training holds.
    """
    tx, params = setting(width)
    dense = 3 * bytes_of(params)
    state = tx.init(params)
    keys = jax.random.split(jax.random.key(2), INPUTS)
    inputs = [jax.random.normal(key, (size, width)) for key in keys]
    step = masks.compact_step(loss, tx)
    held = masks.compact(masks.apply(params, state), state)
    del params, state

    held, _ = step(held, inputs[0])  # The first partition grows.
    sizes: dict[str, float] = {"held, one dense": bytes_of(held) / dense}
    copy = jax.tree.map(jnp.copy, held)
    params, state = masks.expand(jax.tree.map(jnp.copy, held))
    sizes["held, masked form"] = bytes_of(params, state) / dense

    def dense_step(params: Any, state: Any, x: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, x)
        updates, state = optax.adam(1e-3).update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    plain = jax.tree.map(jnp.copy, (params, state.inner))
    programs = {
        "dense Adam": (jax.jit(dense_step, donate_argnums=(0, 1)), plain),
        "masked": (step.at_boundary, (params, state)),
        "compact, one dense": (step.between, (copy,)),
    }
    for number in range(2 * LAYERS - 1):
        held, _ = step(held, inputs[number % INPUTS])
    sizes["held, all sparse"] = bytes_of(held) / dense
    programs["compact, all sparse"] = (step.between, (held,))
    found = []
    for name, (jitted, begin) in programs.items():
        compiled = jitted.lower(*begin, inputs[0]).compile()
        facts = program.read(compiled, watched=((width, width),))
        # Forward, and the gradients of weights and, but for the first layer, of inputs.
        program.require(facts, name, products=3 * LAYERS - 1, in_place=bytes_of(begin) // 2)
        sizes[f"peak of a step, {name}"] = peak_bytes(compiled) / dense
        is_base = name == BASELINE
        run = _Steps(compiled, begin, inputs)
        found.append(
            Candidate(
                name,
                run,
                "step",
                baseline=BASELINE if is_base else "",
                against=() if is_base else (BASELINE,),
                program=facts,
            )
        )
    # Expanding: what is compact lies beside what is expanded for a moment, then it is freed.
    shared = sizes["held, one dense"] + sizes["held, masked form"] - 1 / LAYERS
    sizes["peak at a boundary"] = max(shared, sizes["peak of a step, masked"])
    functions = {candidate.name: candidate.run for candidate in found}
    times = timing.measure(functions, jax.block_until_ready, effort)
    rows = report.rows(f"batch {size}", found, times)
    print(f"\n## batch {size}, {LAYERS} layers of {width}\n{report.table(rows)}\n", flush=True)
    for name, share in sizes.items():
        print(f"{name:36s} {share:6.3f} x dense", flush=True)
    return {"batch": size, "width": width, "dense_bytes": dense, "bytes": sizes, "rows": rows}


def run(quick: bool = False) -> dict[str, Any]:
    """Measures at all batch sizes.

    Args:
      quick: small layers and few calls.

    Returns:
      The record that is written as JSON.
    """
    effort = timing.QUICK if quick else timing.Effort()
    width = QUICK_WIDTH if quick else WIDTH
    parts = [run_batch(size, width, effort) for size in BATCHES]
    results = (
        [] if quick else report.check(TARGETS, [row for part in parts for row in part["rows"]])
    )
    most = max(part["bytes"]["held, one dense"] for part in parts)
    if results:
        verdict = "pass" if most <= MOST_BYTES else "MISS"
        print(f"\n## Targets\n{report.verdicts(results)}")
        print(f"{verdict}  {most:.4f} of at most {MOST_BYTES} x dense held between boundaries")
    return {
        "benchmark": "masks_compact",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
        "effort": effort._asdict(),
        "density": DENSITY,
        "targets": results,
        "most_bytes": {"found": most, "promised": MOST_BYTES},
        "parts": parts,
    }


if __name__ == "__main__":
    command.main(__doc__, run, "masks_compact_cpu.json")
