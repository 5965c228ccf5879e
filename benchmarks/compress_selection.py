"""Selecting the largest magnitudes of one large array, in multiples of a copy of it.

    python -m benchmarks.compress_selection                 25.6 million floats; about 10 minutes
    python -m benchmarks.compress_selection --quick         a small array, seconds; proves nothing

A copy reads and writes the array once and is the unit: times are shared with whatever else the
machine does, multiples less so. Masks and lists of entries are different work and stand apart.
"""

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jax import lax

from benchmarks import command, eager_torch, machine, timing
from sparsetrain import selection

COPY = "np.copyto"
THRESHOLD, MASK, ENTRIES = "kth_magnitude", "top_k_mask_flat", "top_k_entries"
HIERARCHICAL, SAMPLED = "top_k_hierarchical", "sampled_threshold (1%)"
RIVALS = ("lax.top_k", "np.argpartition", "torch.topk")
DENSITIES = (0.001, 0.01, 0.1)
# Multiples of a copy that a mask may take, whatever the input.
MOST = {0.001: 5.0, 0.01: 7.0, 0.1: 8.0}
EFFORT = timing.Effort(rounds=7, block_s=0.2, most_calls=8, warm=1)
BUFFERS = 2


class Case(NamedTuple):
    """One input and density.

    Attributes:
      kind: "smooth", "ascending", "tied" or "mostly zero".
      entries: N.
      density: fraction kept.
      rivals: whether others' functions are timed too; some take seconds a call.
    """

    kind: str
    entries: int
    density: float
    rivals: bool

    @property
    def kept(self) -> int:
        """k."""
        return selection.count(self.entries, self.density)

    @property
    def title(self) -> str:
        """How tables and results name it."""
        return f"{self.kind}, N={self.entries}, k={self.kept} ({self.density:.1%})"


def cases(quick: bool = False) -> tuple[Case, ...]:
    """Every input at every density; rivals where they end in reasonable time."""
    entries = 2000 if quick else 25_600_000
    kinds = ("smooth",) if quick else ("smooth", "ascending", "tied", "mostly zero")
    return tuple(
        Case(kind, entries, density, kind == "smooth" or density == DENSITIES[0])
        for kind in kinds
        for density in (DENSITIES[:1] if quick else DENSITIES)
    )


def inputs(kind: str, entries: int) -> list[np.ndarray]:
    """Float32 arrays [N] of one kind; "smooth" has heavier tails than a normal one."""
    found = []
    for seed in range(BUFFERS):
        rng = np.random.default_rng(seed)
        spread = np.exp(np.float32(0.7) * rng.standard_normal(entries, dtype=np.float32))
        values = np.float32(1e-3) * spread * rng.standard_normal(entries, dtype=np.float32)
        if kind == "ascending":
            values = np.sort(np.abs(values))
        elif kind == "tied":
            values = np.array(jnp.asarray(values).astype(jnp.bfloat16).astype(jnp.float32))
        elif kind == "mostly zero":
            values[rng.random(entries, dtype=np.float32) >= 1e-4] = 0.0
        found.append(values)
    return found


def run(quick: bool = False, with_torch: bool = True) -> dict[str, Any]:
    """Times all cases and prints their tables.

    Args:
      quick: a small array and few calls.
      with_torch: whether PyTorch takes part, where it is installed and JAX runs on the CPU.

    Returns:
      The record that is written as JSON.

    Raises:
      RuntimeError: a selection is wrong; its time would mean nothing.
    """
    torch = None
    if with_torch and eager_torch.is_installed() and jax.default_backend() == "cpu":
        torch = eager_torch.load(machine.cores_in_use())
    effort = timing.QUICK if quick else EFFORT
    rows: list[dict[str, Any]] = []
    arrays: list[np.ndarray] = []
    last = ""
    for case in cases(quick):
        if case.kind != last:
            arrays, last = inputs(case.kind, case.entries), case.kind
        functions = candidates(case, arrays, torch)
        times = timing.measure(functions, jax.block_until_ready, effort)
        found = [
            {
                "group": case.title,
                "name": name,
                "median_us": t.median * 1e6,
                "p10_us": t.p10 * 1e6,
                "p90_us": t.p90 * 1e6,
                "calls": t.calls,
                "copies": t.median / times[COPY].median,
            }
            for name, t in times.items()
        ]
        print(f"\n## {case.title}\n{table(found)}", flush=True)
        rows += found
    targets = check(cases(quick), rows)
    print(f"\n## Targets\n{verdicts(targets)}", flush=True)
    return {
        "benchmark": "compress_selection",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
        "effort": effort._asdict(),
        "targets": targets,
        "rows": rows,
    }


def candidates(
    case: Case, arrays: list[np.ndarray], torch: Any = None
) -> dict[str, Callable[[int], Any]]:
    """Name -> what is timed; ours are checked first."""
    k, out = case.kept, np.empty_like(arrays[0])
    held = [jnp.asarray(array) for array in arrays]
    functions: dict[str, Callable[[jax.Array], Any]] = {
        THRESHOLD: lambda v: selection.kth_magnitude(v, k),
        SAMPLED: lambda v: selection.sampled_threshold(v, case.density, 0.01),
        MASK: lambda v: selection.top_k_mask_flat(v, k),
        ENTRIES: lambda v: selection.top_k_entries(v, k),
    }
    if case.density <= 0.001:
        functions[HIERARCHICAL] = lambda v: selection.top_k_hierarchical(v, k)
    if case.rivals:
        functions[RIVALS[0]] = lambda v: lax.top_k(jnp.abs(v), k)
    compiled = {name: jax.jit(f).lower(held[0]).compile() for name, f in functions.items()}
    require_exact(case, arrays[0], held[0], compiled)

    def runner(program: Any) -> Callable[[int], Any]:
        return lambda number: program(held[number % BUFFERS])

    found: dict[str, Callable[[int], Any]] = {
        COPY: lambda number: np.copyto(out, arrays[number % BUFFERS])
    }
    found |= {name: runner(program) for name, program in compiled.items()}
    if case.rivals:
        place = case.entries - k
        found[RIVALS[1]] = lambda number: np.argpartition(np.abs(arrays[number % BUFFERS]), place)
        if torch is not None:
            tensors = [torch.from_numpy(array) for array in arrays]
            found[RIVALS[2]] = lambda number: torch.topk(tensors[number % BUFFERS].abs(), k)
    return found


def require_exact(
    case: Case, values: np.ndarray, held: jax.Array, compiled: dict[str, Any]
) -> None:
    """Refuses to time a selection that is not the k largest, ties to the lower index."""
    magnitudes = np.abs(values)
    threshold = np.partition(magnitudes, case.entries - case.kept)[case.entries - case.kept]
    above, tied = magnitudes > threshold, np.flatnonzero(magnitudes == threshold)
    above[tied[: case.kept - int(above.sum())]] = True
    indices = np.flatnonzero(above)
    faults = []
    if compiled[THRESHOLD](held) != threshold:
        faults.append(THRESHOLD)
    if not np.array_equal(compiled[MASK](held), above):
        faults.append(MASK)
    for name in (ENTRIES, HIERARCHICAL):
        if name in compiled and not np.array_equal(compiled[name](held)[1], indices):
            faults.append(name)
    if faults:
        raise RuntimeError(f"{case.title}: wrong result of {', '.join(faults)}")


def check(cases: tuple[Case, ...], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came of the targets: masks in copies, entries against each rival that was timed."""
    copies = {(row["group"], row["name"]): row["copies"] for row in rows}
    results = []
    for case in cases:
        limits = [(MASK, f"{MOST[case.density]:g} copies", MOST[case.density])]
        for rival in RIVALS:
            if (case.title, rival) in copies:
                limits.append((ENTRIES, rival, copies[case.title, rival]))
        for name, limit, most in limits:
            result = {"group": case.title, "name": name, "limit": limit, "most": most}
            took = copies[case.title, name]
            results.append({**result, "copies": took, "reached": took <= most})
    return results


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text, one line a row."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}s} {'copies':>8s} {'median ms':>11s} {'p10':>9s} {'p90':>9s}"]
    for row in rows:
        times = [row[key] / 1e3 for key in ("median_us", "p10_us", "p90_us")]
        cells = f"{times[0]:11.2f} {times[1]:9.2f} {times[2]:9.2f}"
        lines.append(f"{row['name']:{width}s} {row['copies']:8.2f} {cells}")
    return "\n".join(lines)


def verdicts(results: list[dict[str, Any]]) -> str:
    """One line a target."""
    return "\n".join(
        f"{'pass' if result['reached'] else 'MISS'}  {result['copies']:7.2f} of "
        f"{result['most']:.2f} copies  {result['group']}: {result['name']}, "
        f"against {result['limit']}"
        for result in results
    )


def main(argv: list[str]) -> None:
    """Command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # JAX lists the backends that it does not find
    machine.use_cores(_CORES.value)
    record = run(_QUICK.value, _TORCH.value)
    name = f"compress_selection_{record['machine']['backend']}.json"
    command.save(record, _OUT.value, name, is_whole=not _QUICK.value)


if __name__ == "__main__":
    # Defined here, for other benchmarks that import this module have flags of the same names.
    _OUT = flags.DEFINE_string("out", None, "JSON file; a whole run writes one to results.")
    _QUICK = flags.DEFINE_bool("quick", False, "A small array: tests the script itself.")
    _CORES = flags.DEFINE_integer("cores", 1, "Cores to run on; 0 for all.", lower_bound=0)
    _TORCH = flags.DEFINE_bool("torch", True, "Time PyTorch too, where it is installed.")
    app.run(main)
