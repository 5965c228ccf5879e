"""Every kernel against its reference, the machine's ceilings, and its rivals: checked on fresh data, then timed.

    python -m benchmarks.kernels                   on whatever device there is; minutes
    python -m benchmarks.kernels --quick           small arrays, seconds; no claim can rest on it
    python -m benchmarks.kernels --only=unified    cases whose name contains a word

On a GPU or TPU the kernels run beside plain XLA; on a CPU there is only the latter, with smaller matrices.
PyTorch is a rival where it is installed and sees the same device.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import (
    command,
    kernels_products,
    kernels_selection,
    kernels_step,
    machine,
    timing,
)
from benchmarks.kernels_case import Candidates, Case

ROUNDS = 6
IN_A_ROW = 10  # calls of an accelerator before it is waited for: what hides the time to start them


def run(quick: bool = False, only: str = "") -> dict[str, Any]:
    """Checks and times.

    Args:
      quick: small arrays and few calls.
      only: cases whose operation contains this.

    Returns:
      The record that is written as JSON; seconds are medians.
    """
    begin = time.perf_counter()
    in_a_row = 1 if quick or jax.default_backend() == "cpu" else IN_A_ROW
    effort = timing.QUICK if quick else timing.Effort(rounds=ROUNDS, block_s=0.1, most_calls=20)
    ceilings = machine_ceilings(quick, effort, in_a_row)
    rows: list[dict[str, Any]] = []
    for case in cases(quick):
        if only in case.operation:
            rows += measured(case, effort, in_a_row, ceilings)
            print(table(_of(rows, case)), flush=True)
    return {
        "benchmark": "kernels",
        "quick": quick,
        "machine": machine.describe(),
        "ceilings": ceilings,
        "rows": rows,
        "took_s": time.perf_counter() - begin,
    }


def cases(quick: bool) -> Iterator[Case]:
    """All of them, built one after the other."""
    for module in (kernels_selection, kernels_products, kernels_step):
        yield from module.cases(quick)


def machine_ceilings(quick: bool, effort: timing.Effort, in_a_row: int) -> dict[str, float]:
    """What this machine copies and multiplies in a second: bytes read and written, operations in bfloat16."""
    is_cpu = jax.default_backend() == "cpu"
    entries = 1 << 16 if quick else 1 << (24 if is_cpu else 26)
    side = 128 if quick else (1024 if is_cpu else 8192)
    vectors = [jnp.full((entries,), i + 1.0) for i in range(3)]
    matrices = [jax.random.normal(jax.random.key(i), (side, side), jnp.bfloat16) for i in range(3)]
    copy = jax.jit(lambda v: v * 2)
    multiply = jax.jit(lambda a, b: a @ b)
    found: Candidates = {
        "copy": lambda number: copy(vectors[number % 3]),
        "product": lambda number: multiply(matrices[number % 3], matrices[(number + 1) % 3]),
    }
    times = timed(found, effort, in_a_row)
    return {
        "bytes_per_second": 8 * entries / times["copy"].median,
        "flops_per_second": 2 * side**3 / times["product"].median,
    }


def measured(
    case: Case, effort: timing.Effort, in_a_row: int, ceilings: dict[str, float]
) -> list[dict[str, Any]]:
    """The rows of one case.

    Args:
      case: is checked first.
      effort: how many calls.
      in_a_row: calls that are waited for together.
      ceilings: of the machine.

    Raises:
      ValueError: something computes something else.
    """
    case.check()
    times = timed(case.build(), effort, in_a_row)
    base = times[case.baseline].median
    bound = max(
        case.moved / ceilings["bytes_per_second"], case.flops / ceilings["flops_per_second"]
    )
    return [
        {
            "operation": case.operation,
            "case": case.shape,
            "name": name,
            "seconds": time.median,
            "p10": time.p10,
            "p90": time.p90,
            "bytes_per_second": case.moved / time.median,
            "flops_per_second": case.flops / time.median,
            "share_of_bound": bound / time.median,
            "baseline": case.baseline,
            "times_baseline": base / time.median,
        }
        for name, time in times.items()
    ]


def timed(candidates: Candidates, effort: timing.Effort, in_a_row: int) -> dict[str, timing.Timing]:
    """Seconds of one call each, several of them waited for together."""

    def several(call: Callable[[int], Any], number: int) -> Any:
        for i in range(in_a_row):
            result = call(number * in_a_row + i)
        return result

    grouped = {name: functools.partial(several, call) for name, call in candidates.items()}
    units = dict.fromkeys(candidates, in_a_row)
    return timing.measure(grouped, jax.block_until_ready, effort, units)


def _of(rows: list[dict[str, Any]], case: Case) -> list[dict[str, Any]]:
    return [r for r in rows if (r["operation"], r["case"]) == (case.operation, case.shape)]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of one case as text."""
    head = f"{rows[0]['operation']}: {rows[0]['case']}"
    lines = [
        f"{head}\n{'':32s} {'us':>10s} {'GB/s':>8s} {'TFLOP/s':>8s} {'of bound':>8s} {'speed':>7s}"
    ]
    for row in rows:
        moved, flops = row["bytes_per_second"] / 1e9, row["flops_per_second"] / 1e12
        lines.append(
            f"  {row['name']:30s} {1e6 * row['seconds']:10.1f} {moved:8.1f} {flops:8.2f} "
            f"{row['share_of_bound']:8.0%} {row['times_baseline']:6.2f}x"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--only", default="", help="cases whose operation contains this")
    options = parser.parse_args()
    machine.use_cores(options.cores)
    record = run(options.quick, options.only)
    is_whole = not (options.quick or options.only)
    command.save(record, options.out, f"kernels_{jax.default_backend()}.json", is_whole)


if __name__ == "__main__":
    main()
