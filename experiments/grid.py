"""A grid of runs, each to one result file: never a partial one, never a finished one again."""

import dataclasses
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

import sparsetrain
from sparsetrain.training.metrics import replace_text


def complete(
    grid: Sequence[Any],
    out: Path,
    record: Callable[[Any, Path], bool],
    write: Callable[[Path], None],
    made: str = "tables and plots",
    errors: tuple[type[Exception], ...] = (FileNotFoundError,),
    keep_compiled: bool = False,
) -> None:
    """Runs what is missing of a grid, and reports.

    Args:
      grid: runs.
      out: folder of the results.
      record: trains a run and writes its file; whether there was something to do.
      write: makes of the results what is reported.
      made: what that is.
      errors: of `record` whose text says all, and ends the program.
      keep_compiled: whether a run can use what the one before compiled.
    """
    for number, run in enumerate(grid, 1):
        begin = time.perf_counter()
        try:
            done = record(run, out)
        except errors as error:
            sys.exit(str(error))
        if not keep_compiled:
            jax.clear_caches()
        if done:
            seconds = time.perf_counter() - begin
            print(f"{number} of {len(grid)}: {run.name} ({seconds:.0f} s)", flush=True)
    write(out)
    print(f"{made}: {out}")


def write_once(run: Any, out: Path, measure: Callable[[], dict[str, Any]]) -> bool:
    """Writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: dataclass with a name; its fields are the first of the file.
      out: folder of the results, made if absent.
      measure: trains, and returns the fields that are measured.

    Returns:
      Whether there was something to do.
    """
    path = out / f"{run.name}.json"
    if path.exists():
        return False
    begin = time.perf_counter()
    content = dataclasses.asdict(run) | measure() | circumstances(begin)
    out.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return True


def circumstances(begin: float) -> dict[str, Any]:
    """When, where and with what a run that began at that `perf_counter` was made."""
    return {
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "versions": {
            "sparsetrain": sparsetrain.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{jax.devices()[0].device_kind}, {processor()}, {len(os.sched_getaffinity(0))} core(s)",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def processor() -> str:
    """Name of the CPU."""
    lines = Path("/proc/cpuinfo")
    if lines.exists():
        for line in lines.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
