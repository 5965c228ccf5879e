"""What the processor takes, from the records of the benchmarks: nothing is timed here."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparsetrain.runtime.cost_model import Exchange, Work

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results"
RESULTS = Path(__file__).parent / "results"
ENTRIES = 25_600_000  # ResNet-50, which the benchmarks are of
TENSORS = 161
DENSITIES = (0.01, 0.001)
# Ok-Topk came later and has a run of its own, on the same kind of core.
STEP_RECORDS = ("compress_ok_top_k_cpu.json", "compress_cpu.json")
# Method -> row of these: a whole step of error feedback, gradient in, update and residual out.
STEPS = {
    "top_k": "top_k of every tensor",
    "gtop_k": "top_k of every tensor",
    "ok_topk": "ok_top_k",
    "dls": "DLS(1)",
    "sbc": "sparse_binary",
}
FREE = "free"  # the processor that takes no time
CPU = "one CPU core"


@functools.cache
def read(path: Path) -> Any:
    """A record of a benchmark."""
    return json.loads(path.read_text())


def selection() -> dict[str, dict[float, float]]:
    """Method -> density -> seconds of selecting, and of encoding where the method encodes."""
    steps = {
        (row["group"].rpartition(" ")[2], row["name"]): row["median_us"] / 1e6
        for record in STEP_RECORDS
        for row in read(BENCHMARKS / record)["exchange"]["rows"]
    }
    found = {
        method: {density: steps[f"{density:g}", name] for density in DENSITIES}
        for method, name in STEPS.items()
    }
    for density in DENSITIES:
        found["sbc"][density] += density * ENTRIES * code_seconds("encode", density)
    return found


def code_seconds(direction: str, density: float) -> float:
    """Seconds a position takes in the Golomb codec with numba."""
    wanted = f"density {density:g}", f"{direction}, Golomb, numba"
    for row in read(BENCHMARKS / "wire_cpu.json")["rows"]:
        if (row["group"], row["name"]) == wanted:
            return row["median_us"] / 1e6
    raise ValueError(f"wire_cpu.json has no row {wanted}: run  python -m benchmarks.wire")


def interpolated(seconds: Mapping[float, float]) -> Callable[[Any], Any]:
    """Seconds at densities between the measured ones, linear in the density; beyond them the nearest.

    Example:
      >>> round(float(interpolated({0.01: 3.0, 0.001: 1.2})(0.0055)), 6)
      2.1
    """
    known = sorted(seconds)
    times = [seconds[density] for density in known]
    return lambda density: np.interp(density, known, times)


def processor(name: str, exchange: Exchange, density: float) -> Work:
    """Seconds of a processor for one method.

    Args:
      name: `FREE` or `CPU`.
      exchange: the method.
      density: at which adding was measured, one of `DENSITIES`.
    """
    if name == FREE:
        return Work()
    after = {row["name"]: row["seconds"] for row in read(RESULTS / "apply_cpu.json")["rows"]}
    if exchange.is_dense:
        return Work(add=after["add"])
    scatter = after[f"scatter, density {density:g}"]
    if exchange.method == "sbc":
        scatter += code_seconds("decode", density)
    select = interpolated(selection()[exchange.method])
    return Work(selection=select, scatter=scatter, merge=after[f"merge, density {density:g}"])
