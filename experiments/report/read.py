"""Runs as the report sees them: of `experiments.main`'s folders and of the experiments' result files.

Nothing here fails on a broken run: what is missing or torn becomes a note, and what is whole is shown.
"""

import dataclasses
import glob
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsetrain.training import metrics

# What a record calls the place where training stands; an "epoch" beside a "step" is no measurement.
CLOCKS = ("step", "update", "iteration", "round", "epoch", "evaluation")
_METRICS, _CONFIG, _SUMMARY = "metrics.jsonl", "config.json", "summary.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      name: its folder or file, as short as it can be told.
      family: runs of one family are compared: the folder of result files, or "runs".
      config: dotted name -> setting, without the seed.
      seed: of the run; None if it has none.
      clock: one of `CLOCKS`, what `history` counts in.
      history: records of the evaluations, in order; a number that was not finite is None.
      summary: field -> number or text; of an unfinished run its last record.
      finished: whether the run came to its end.
      notes: sentences about what is missing or broken.
    """

    name: str
    family: str
    config: Mapping[str, Any]
    seed: Any
    clock: str
    history: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    finished: bool
    notes: tuple[str, ...] = ()


def find(sources: str) -> list[Run]:
    """All runs under some folders.

    Args:
      sources: folders, files or globs, separated by commas. A folder is a run of `experiments.main`, or
        holds such folders or result files at any depth.

    Returns:
      Runs in the order of their paths; a run that is named twice is there once.

    Raises:
      ValueError: a source that matches nothing, or holds no run.
    """
    found: dict[Path, Run] = {}
    for source in filter(None, map(str.strip, sources.split(","))):
        paths = [Path(path) for path in sorted(glob.glob(source, recursive=True))]
        if not paths:
            raise ValueError(f"--runs={source}: there is no such folder or file")
        before = len(found)
        for path in paths:
            for place in _places(path):
                run = of_folder(place) if place.is_dir() else of_file(place)
                if run is not None:
                    found.setdefault(place.resolve(), run)
        if len(found) == before and not any(path.resolve() in found for path in paths):
            raise ValueError(
                f"--runs={source} holds no run: neither {_METRICS} of experiments.main, nor result files "
                "with a summary or curves"
            )
    return _shortened(list(found.values()))


def _places(path: Path) -> Iterator[Path]:
    """Folders of runs and result files at or below a path."""
    if path.is_file():
        yield path
        return
    if (path / _METRICS).exists() or (path / _CONFIG).exists():
        yield path
        return
    for below in sorted(path.iterdir()):
        if below.is_dir():
            yield from _places(below)
        elif below.suffix == ".json":
            yield below


def of_folder(folder: Path) -> Run:
    """A run of `experiments.main`, whatever there is of it.

    Args:
      folder: with `config.json`, `metrics.jsonl` and, of a finished run, `summary.json`.

    Returns:
      `Run`; its notes say what is missing or broken.
    """
    notes = []
    config, trouble = _object(folder / _CONFIG)
    if trouble:
        notes.append(f"{trouble}: its settings are unknown")
    settings = flat(config or {})
    seed = settings.pop("seed", None)
    history = metrics.read(folder / _METRICS)
    if not (folder / _METRICS).exists():
        notes.append(f"{_METRICS} is missing: nothing was evaluated yet")
    else:
        lines = (folder / _METRICS).read_text(errors="replace").splitlines()
        torn = len([line for line in lines if line.strip()]) - len(history)
        if torn:
            notes.append(
                f"{_METRICS} has a line that is cut off or damaged; evaluations before it, which are shown: "
                f"{len(history)}; lines left out: {torn}"
            )
    history = [record for record in history if isinstance(record, dict)]
    summary, trouble = _object(folder / _SUMMARY)
    if trouble:
        last = history[-1] if history else {}
        whole = (config or {}).get("epochs")
        place = f" after epoch {last['epoch']} of {whole}" if "epoch" in last and whole else ""
        notes.append(f"unfinished{place} ({trouble}): it counts in no mean")
    notes += diverged(history, "step")
    return Run(
        name=str(folder),
        family="runs",
        config=settings,
        seed=seed,
        clock="step",
        history=history,
        summary=summary if summary is not None else (history[-1] if history else {}),
        finished=summary is not None,
        notes=tuple(notes),
    )


def of_file(path: Path) -> Run | None:
    """A run from the result file of an experiment, see `experiments.grid.write_once`.

    What stands before "summary" or "curves" are its settings. A number behind them was measured too; it
    counts where there is no "summary".

    Args:
      path: of the file.

    Returns:
      `Run`; None where the file is whole but no result of one run.
    """
    content, trouble = _object(path)
    family = str(path.parent.parent if path.parent.name == "results" else path.parent)
    if trouble:
        if "_seed" not in path.name:
            return None  # Not one of `grid`'s.
        return Run(path.name, family, {}, None, "step", [], {}, False, (trouble,))
    assert content is not None
    measured = [name for name in ("summary", "curves") if isinstance(content.get(name), dict)]
    if not measured:
        return None
    names = list(content)
    first = min(names.index(name) for name in measured)
    settings = flat({name: content[name] for name in names[:first]})
    seed = settings.pop("seed", None)
    summary = content.get("summary")
    if not isinstance(summary, dict):
        behind = {name: content[name] for name in names[first:]}
        summary = {name: value for name, value in behind.items() if is_number(value)}
    clock, history = _records(content.get("curves") or {})
    notes = tuple(diverged(history, clock))
    return Run(path.name, family, settings, seed, clock, history, summary, True, notes)


def _records(curves: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Columns as records; without a clock among them they are counted."""
    columns = {
        name: values
        for name, values in curves.items()
        if isinstance(values, list) and all(value is None or is_number(value) for value in values)
    }
    if not columns:
        return CLOCKS[-1], []
    length = max(len(values) for values in columns.values())
    columns = {name: values for name, values in columns.items() if len(values) == length}
    clock = next((name for name in CLOCKS if name in columns), CLOCKS[-1])
    columns.setdefault(clock, list(range(1, length + 1)))
    return clock, [
        {name: metrics.finite(values[i]) for name, values in columns.items()} for i in range(length)
    ]


def diverged(history: Sequence[Mapping[str, Any]], clock: str) -> list[str]:
    """A sentence where a loss stopped to be finite.

    Example:
      >>> diverged([{"step": 5, "train_loss": 2.0}, {"step": 10, "train_loss": None}], "step")
      ['train_loss is not finite from step 10 on']
    """
    for record in history:
        for name, value in record.items():
            if name.endswith("loss") and value is None:
                return [f"{name} is not finite from {clock} {record[clock]} on"]
    return []


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by dotted names; a list is a setting.

    Example:
      >>> flat({"seed": 0, "model": {"name": "mlp", "hidden": [4, 4]}})
      {'seed': 0, 'model.name': 'mlp', 'model.hidden': (4, 4)}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            found[above + name] = _hashable(value)
    return found


def is_number(value: Any) -> bool:
    """Whether a JSON value is one; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return repr(value) if isinstance(value, Mapping) else value


def _object(path: Path) -> tuple[dict[str, Any] | None, str]:
    """(contents, ""), or (None, what is wrong with the file)."""
    if not path.exists():
        return None, f"{path.name} is missing"
    try:
        content = json.loads(path.read_text(), parse_constant=lambda _: math.nan)
    except (ValueError, OSError) as error:
        return None, f"{path.name} cannot be read ({type(error).__name__})"
    return (content, "") if isinstance(content, dict) else (None, f"{path.name} holds no object")


def _shortened(runs: list[Run]) -> list[Run]:
    """Names without the folder that all have in common."""
    folders = [Path(run.name).parts for run in runs if run.family == "runs"]
    shared = 0
    if len(folders) > 1:
        while len({parts[: shared + 1] for parts in folders}) == 1:
            shared += 1
    elif folders:
        shared = len(folders[0]) - 1
    return [
        dataclasses.replace(run, name="/".join(Path(run.name).parts[shared:]) or run.name)
        if run.family == "runs"
        else run
        for run in runs
    ]
