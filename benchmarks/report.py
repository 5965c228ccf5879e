"""Rows, tables and targets made of timings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.candidate import Candidate
from benchmarks.timing import Timing


class Target(NamedTuple):
    """A speed that is promised.

    Attributes:
      group: title of the case.
      name: row in it.
      against: kind of baseline.
      least: promised ratio.
      aim: ratio hoped for.
    """

    group: str
    name: str
    against: str
    least: float
    aim: float


def rows(
    group: str, candidates: Sequence[Candidate], times: Mapping[str, Timing]
) -> list[dict[str, Any]]:
    """One record a candidate, ready for JSON.

    Args:
      group: title of the case.
      candidates: what was timed.
      times: name -> times.

    Returns:
      Records with times in microseconds per step and `speedup`: kind of baseline -> its median over
      this median. Of several baselines of a kind, the fastest counts, so no ratio is flattered.

    Example:
      >>> fast = Candidate("fast", print, "layer", against=("plain",))
      >>> slow = [Candidate(name, print, "layer", baseline="plain") for name in ("slow", "slower")]
      >>> medians = {"fast": 1e-6, "slow": 3e-6, "slower": 4e-6}
      >>> times = {name: Timing(t, t, t, calls=9) for name, t in medians.items()}
      >>> rows("g", [*slow, fast], times)[2]["speedup"]
      {'plain': 3.0}
    """
    best: dict[tuple[str, str], float] = {}
    for candidate in candidates:
        if candidate.baseline:
            key = (candidate.family, candidate.baseline)
            best[key] = min(best.get(key, float("inf")), times[candidate.name].median)
    records = []
    for candidate in candidates:
        t = times[candidate.name]
        speedup = {kind: best[candidate.family, kind] / t.median for kind in candidate.against}
        records.append(
            {
                "group": group,
                "name": candidate.name,
                "family": candidate.family,
                "baseline": candidate.baseline,
                "median_us": t.median * 1e6,
                "p10_us": t.p10 * 1e6,
                "p90_us": t.p90 * 1e6,
                "calls": t.calls,
                "steps_per_call": candidate.steps,
                "speedup": speedup,
                "slower_than_dense": any(ratio < 1 for ratio in speedup.values()),
                "program": None if candidate.program is None else candidate.program._asdict(),
            }
        )
    return records


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Plain text, one line a record; a row that is slower than dense says so."""
    width = max(len(record["name"]) for record in records)
    kinds = list(dict.fromkeys(kind for record in records for kind in record["speedup"]))
    heads = [f"{'x ' + kind:>13s}" for kind in kinds]
    lines = [" ".join([f"{'':{width}s} {'median us':>11s} {'p10':>11s} {'p90':>11s}", *heads])]
    for record in records:
        ratios = (record["speedup"].get(kind) for kind in kinds)
        cells = [f"{'' if ratio is None else f'{ratio:.2f}':>13s}" for ratio in ratios]
        times = (f"{record[key]:11.1f}" for key in ("median_us", "p10_us", "p90_us"))
        remark = " SLOWER THAN DENSE" if record["slower_than_dense"] else ""
        lines.append(" ".join([f"{record['name']:{width}s}", *times, *cells]).rstrip() + remark)
    return "\n".join(lines)


def check(targets: Sequence[Target], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What came of the targets whose cases were run: their records with `ratio` and `reached`."""
    found = {(record["group"], record["name"]): record for record in records}
    results = []
    for target in targets:
        record = found.get((target.group, target.name))
        if record is not None:
            ratio = record["speedup"][target.against]
            results.append({**target._asdict(), "ratio": ratio, "reached": ratio >= target.least})
    return results


def verdicts(results: Sequence[Mapping[str, Any]]) -> str:
    """One line a target."""
    lines = []
    for result in results:
        verdict = "pass" if result["reached"] else "MISS"
        aim = "" if result["aim"] <= result["least"] else f", aim {result['aim']:g}x"
        lines.append(
            f"{verdict}  {result['ratio']:7.2f}x  of {result['least']:g}x{aim}  "
            f"{result['group']}: {result['name']}, against {result['against']}"
        )
    return "\n".join(lines)
