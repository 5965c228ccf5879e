"""Times what comes after an exchange: adding sparse entries or dense vectors to a dense one, merging sparse ones.

    python -m experiments.cost_model.measure        25.6M floats, on one core; half a minute

`benchmarks.compress` times what comes before it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command, machine, timing
from sparsetrain.compress.global_merge import Pairs, merge

ENTRIES = 25_600_000
DENSITIES = (0.01, 0.001)
WORKERS = 4  # whose entries are added at once
NAME = "apply_cpu.json"
RESULTS = Path(__file__).parent / "results"


def messages(entries: int, density: float) -> tuple[jax.Array, jax.Array]:
    """Positions and values as an all-gather leaves them: rising within a worker's message."""
    rng = np.random.default_rng(0)
    count = max(1, round(density * entries))
    draws = [np.sort(rng.choice(entries, count, replace=False)) for _ in range(WORKERS)]
    return jnp.asarray(np.concatenate(draws), jnp.int32), jnp.ones(WORKERS * count)


def run(quick: bool = False) -> dict[str, Any]:
    """Times scattering and adding.

    Args:
      quick: a small vector and few calls.

    Returns:
      The record that is written as JSON; `seconds` are per entry.
    """
    entries = ENTRIES // 1000 if quick else ENTRIES
    # Donated: both work in place, as the step that they are part of does.
    scatter = jax.jit(lambda dense, at, values: dense.at[at].add(values), donate_argnums=0)
    add = jax.jit(lambda dense, other: dense + other, donate_argnums=0)
    held = [jnp.zeros(entries)]

    def step(function: Any, *operands: jax.Array, number: int) -> jax.Array:
        del number
        held[0] = function(held[0], *operands)
        return held[0]

    candidates: dict[str, Callable[..., Any]] = {}
    units: dict[str, int] = {}
    for density in DENSITIES:
        name = f"scatter, density {density:g}"
        operands = messages(entries, density)
        candidates[name] = functools.partial(step, scatter, *operands)
        units[name] = operands[0].size
        pairs = [
            Pairs(*pair) for pair in zip(*(jnp.split(x, WORKERS) for x in operands), strict=True)
        ]
        count = pairs[0].indices.size
        merged = jax.jit(functools.partial(merge, size=entries, count=jnp.int32(count)))
        name = f"merge, density {density:g}"
        candidates[name] = functools.partial(_merge, merged, pairs)
        units[name] = count
    candidates["add"] = functools.partial(step, add, jnp.ones(entries))
    units["add"] = entries
    source, room = np.ones(entries, np.float32), np.empty(entries, np.float32)
    candidates["copy"] = lambda number: np.copyto(room, source)
    units["copy"] = entries
    functions = {
        name: lambda number, each=each: each(number=number) for name, each in candidates.items()
    }
    effort = timing.QUICK if quick else timing.Effort(rounds=8, most_calls=20)
    times = timing.measure(functions, jax.block_until_ready, effort, units)
    return {
        "benchmark": "apply",
        "entries": entries,
        "quick": quick,
        "machine": machine.describe(),
        # The tenth of the calls that other processes disturbed least; the median beside it says how much they did.
        "rows": [
            {"name": name, "seconds": each.p10, "median": each.median}
            for name, each in times.items()
        ],
    }


def _merge(merged: Any, pairs: list[Pairs], number: int) -> Pairs:
    return merged(pairs[number % WORKERS], pairs[(number + 1) % WORKERS])


def main() -> None:
    """Command line."""
    options = command.parser(__doc__).parse_args()
    machine.use_cores(options.cores)
    out = options.out or (None if options.quick else RESULTS / NAME)
    command.save(run(options.quick), out, NAME, is_whole=False)


if __name__ == "__main__":
    main()
