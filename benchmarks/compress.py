"""Selection of the largest entries, and whole steps of error feedback, in multiples of a copy.

    python -m benchmarks.compress                  25.6M floats, on one core; about 15 minutes
    python -m benchmarks.compress --quick          small arrays, seconds; no claim can rest on it
    python -m benchmarks.compress --part=exchange  the steps alone; of one compressor with --only=ok_top_k

Times of different machines do not compare; a copy of the same floats, timed in the same run, does.
"""

import datetime
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import command, compress_exchange, compress_selection, machine, report, timing

PARTS = ("selection", "exchange")
DENSITIES = (0.01, 0.001)


def run_exchange(quick: bool = False, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Times a step of every compressor and prints the tables.

    Args:
      quick: a few small tensors and few calls.
      only: names of compressors; None for all.

    Returns:
      The record that is written as JSON.
    """
    shapes = compress_exchange.quick_shapes() if quick else compress_exchange.resnet50_shapes()
    effort = timing.QUICK if quick else timing.Effort(rounds=6, most_calls=6, warm=1)
    records: list[dict[str, Any]] = []
    for density in DENSITIES:
        title = f"error feedback on {len(shapes)} tensors, density {density:g}"
        found = list(compress_exchange.candidates(shapes, density, only))
        functions = {candidate.name: candidate.run for candidate in found}
        times = timing.measure(functions, jax.block_until_ready, effort)
        rows = report.rows(title, found, times)
        for row in rows:
            row["copies"] = row["median_us"] / rows[0]["median_us"]
        records += rows
        print(f"\n## {title}\n{table(rows)}", flush=True)
        jax.clear_caches()
    return {"effort": effort._asdict(), "rows": records}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text, in milliseconds and in copies."""
    lines = [f"{'':28s} {'median ms':>10s} {'p10':>8s} {'p90':>8s} {'copies':>8s}"]
    for row in rows:
        cells = [row["median_us"], row["p10_us"], row["p90_us"]]
        numbers = " ".join(
            f"{cell / 1e3:{width}.1f}" for cell, width in zip(cells, (10, 8, 8), strict=True)
        )
        lines.append(f"{row['name']:28s} {numbers} {row['copies']:8.1f}")
    return "\n".join(lines)


def run(
    quick: bool = False, parts: tuple[str, ...] = PARTS, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Runs the parts.

    Args:
      quick: small arrays and few calls.
      parts: of `PARTS`.
      only: as for `run_exchange`.

    Returns:
      The record that is written as JSON.
    """
    record: dict[str, Any] = {
        "benchmark": "compress",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine.describe(),
    }
    if "selection" in parts:
        record["selection"] = compress_selection.run(quick=quick)
    if "exchange" in parts:
        record["exchange"] = run_exchange(quick, only)
    return record


def main() -> None:
    """Command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all parts")
    names = tuple(compress_exchange.compressors(DENSITIES[0]))
    parser.add_argument("--only", choices=names, action="append", help="compressor; default: all")
    options = parser.parse_args()
    machine.use_cores(options.cores)
    parts = tuple(options.part or PARTS)
    is_whole = not (options.quick or options.only) and parts == PARTS
    command.save(
        run(options.quick, parts, options.only), options.out, "compress_cpu.json", is_whole
    )


if __name__ == "__main__":
    main()
