"""Runs that differ in nothing but their seed, and what tells such cells apart."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.report import quantity, read
from experiments.report.read import Run

# A lever that is off: its other settings do nothing.
_OFF = ("none", "dense", None, "")
_HEADS = ("rule", "name", "method", "kind")
_UNKNOWN = object()


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs with one setting and different seeds.

    Attributes:
      label: what tells it apart, in few words.
      settings: of each column of the group, in its order; None where the setting does nothing.
      runs: in the order of their seeds.
      is_known: whether its settings could be read.
    """

    label: str
    settings: tuple[Any, ...]
    runs: tuple[Run, ...]
    is_known: bool = True

    @property
    def counted(self) -> tuple[Run, ...]:
        """Runs that means are taken of: the finished ones, or what there is where none is finished."""
        return tuple(run for run in self.runs if run.finished) or self.runs

    def values(self, field: str) -> list[float]:
        """Of every counted run that has the field as a number."""
        found: list[Any] = [run.summary.get(field) for run in self.counted]
        return [float(value) for value in found if read.is_number(value)]

    def mean_and_spread(self, field: str) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation over seeds; None where there is no number, or one only."""
        found = self.values(field)
        if not found or len(found) < len([r for r in self.counted if field in r.summary]):
            return None, None  # A mean of some seeds would look like one of all.
        return statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells that can be compared.

    Attributes:
      title: of the family.
      columns: dotted names of the settings that differ.
      shared: those that do not, with their values.
      cells: in the order in which their first runs were found.
      clock: what their histories count in.
      score: field of the summaries that comes first; "" if there is none.
      score_name: what the task calls its score, where fields do not say it.
    """

    title: str
    columns: tuple[str, ...]
    shared: Mapping[str, Any]
    cells: tuple[Cell, ...]
    clock: str
    score: str
    score_name: str | None

    def quantity(self, field: str, values: Sequence[float] = ()) -> quantity.Quantity:
        """What a field is, judged by the given values, or by those of all summaries."""
        known = [*values] or [value for cell in self.cells for value in cell.values(field)]
        if field in ("test", "validation") and max(known, default=2.0) <= 1:
            # The experiments of sparse weights call the score of a split by its name alone.
            own = quantity.of(
                self.score, [value for c in self.cells for value in c.values(self.score)]
            )
            if own.unit == "%":
                return own._replace(title=f"{field} {own.title.removeprefix('test ')}")
        return quantity.of(field, known, self.score_name)

    def fields(self) -> list[str]:
        """Numbers of the summaries, scores first, each that some cell has."""
        found: dict[str, None] = {}
        for cell in self.cells:
            for run in cell.counted:
                found |= dict.fromkeys(n for n, v in run.summary.items() if read.is_number(v))
        return sorted(found, key=lambda name: _rank(name, self.score))


def groups(runs: Iterable[Run]) -> list[Group]:
    """Runs sorted into groups, cells and seeds.

    Example:
      >>> def run(rule, density, seed):
      ...     config = {"backward.rule": rule, "backward.density": density, "epochs": 3}
      ...     return Run(f"{rule}{seed}", "runs", config, seed, "step", (), {"test_accuracy": 0.5}, True)
      >>> (found,) = groups([run("dense", 0.1, 0), run("top_k", 0.1, 0), run("top_k", 0.1, 1), run("top_k", 0.2, 0)])
      >>> found.columns, [(cell.label, len(cell.runs)) for cell in found.cells]
      (('backward.rule', 'backward.density'), [('dense', 1), ('top_k · density 0.1', 2), ('top_k · density 0.2', 1)])
    """
    families: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        families.setdefault((run.family, run.clock, first_score(run)), []).append(run)
    # A run that has nothing to show yet lies with the others of its family.
    for key in [key for key in families if not key[2]]:
        home = next((other for other in families if other[0] == key[0] and other[2]), None)
        if home is not None:
            families[home] += families.pop(key)
    return [_group(family, members) for (family, _, _), members in families.items()]


def first_score(run: Run) -> str:
    """The field that a run is judged by: at the end, on test data if it has such.

    Example:
      >>> first_score(Run("a", "runs", {}, 0, "step", (), {"validation_uas": 0.8, "test_uas": 0.7}, True))
      'test_uas'
    """
    scores = [
        name
        for name, value in run.summary.items()
        if quantity.is_score(name) and read.is_number(value)
    ]
    return min(scores, key=_rank, default="")


def _rank(name: str, score: str = "") -> tuple[bool, bool, bool, bool, bool, bool, str]:
    """Sorts the one score first, then scores, losses and all the rest; test before validation."""
    return (
        name != score,
        not quantity.is_score(name),
        not name.endswith("loss"),
        name.endswith("at_best"),
        name.startswith("best"),
        name.startswith("validation"),
        name if not quantity.is_score(name) else "",
    )


def _group(title: str, runs: Sequence[Run]) -> Group:
    settings = [effective(run.config) for run in runs]
    names = list(dict.fromkeys(name for each in settings for name in each))
    # A run whose settings could not be read differs in nothing but them.
    known = [each for each in settings if each]
    # A setting that does nothing in some runs differs if it does among the others.
    found = {name: [each[name] for each in known if name in each] for name in names}
    columns = tuple(name for name in names if len(set(map(repr, found[name]))) > 1)
    shared = {name: found[name][0] for name in names if name not in columns}
    members: dict[tuple[Any, ...], list[Run]] = {}
    for run, each in zip(runs, settings, strict=True):
        key = tuple(each.get(name) for name in columns) if each else (_UNKNOWN, run.name)
        members.setdefault(key, []).append(run)
    names_of = labels(columns, list(members))
    cells = tuple(
        Cell(
            label,
            key if held[0].config else (None,) * len(columns),
            tuple(sorted(held, key=lambda run: (str(type(run.seed)), run.seed or 0))),
            bool(held[0].config),
        )
        for label, (key, held) in zip(names_of, members.items(), strict=True)
    )
    scored = [run for run in runs if run.summary] or runs
    named = [run.summary.get("score_name") for run in scored]
    name = next((each for each in named if isinstance(each, str)), None)
    clock = next((run.clock for run in runs if run.history), runs[0].clock)
    return Group(title, columns, shared, cells, clock, first_score(scored[0]), name)


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that do something: those of a lever that is off are left out, but for the one that says so.

    Example:
      >>> effective({"masks.name": "none", "masks.density": 0.1, "epochs": 3})
      {'masks.name': 'none', 'epochs': 3}
    """
    off = set()
    for name, value in config.items():
        section, _, field = name.rpartition(".")
        if section and field in _HEADS and value in _OFF:
            off.add(section)
    return {
        name: value
        for name, value in config.items()
        if name.rpartition(".")[0] not in off or name.rpartition(".")[2] in _HEADS
    }


def shown(value: Any) -> str:
    """A setting as text.

    Example:
      >>> shown(None), shown((256, 256)), shown(0.01), shown(True)
      ('-', '256, 256', '0.01', 'yes')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return (
            ", ".join(f"({shown(v)})" if isinstance(v, tuple) else shown(v) for v in value)
            or "none"
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def labels(columns: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """Few words for each cell: names of methods, and of the other settings as many as are needed.

    Args:
      columns: dotted names of settings.
      keys: of each cell its settings; of one whose settings are not known a mark and its name.

    Returns:
      A label for each cell; they differ where the settings do.

    Example:
      >>> labels(("method", "density", "rounds"), [("sbc", 0.1, 5), ("sbc", 0.01, 5), ("stc", 0.1, 5)])
      ['sbc · density 0.1', 'sbc · density 0.01', 'stc · density 0.1']
      >>> labels(("method", "density", "rounds"), [("sbc", 0.1, 5), ("stc", 0.1, 5)])
      ['sbc', 'stc']
    """
    known: list[tuple[Any, ...]] = [key for key in keys if key[:1] != (_UNKNOWN,)]
    heads = [i for i, name in enumerate(columns) if name.rpartition(".")[2] in _HEADS]
    if not heads:  # Any column of words will do.
        words = [i for i in range(len(columns)) if known and isinstance(known[0][i], str)]
        heads = words[:1]
    chosen, rest = list(heads), [i for i in range(len(columns)) if i not in heads]
    # A name that two levers have (both know top_k) goes with that of its lever.
    owners: dict[str, set[int]] = {}
    for i in heads:
        for key in known:
            owners.setdefault(shown(key[i]), set()).add(i)

    def label(key: tuple[Any, ...]) -> str:
        if key[:1] == (_UNKNOWN,):
            return str(key[1])
        parts = []
        for i in chosen:
            section, _, field = columns[i].rpartition(".")
            if i not in heads:
                if key[i] is not None:
                    parts.append(f"{field.replace('_', ' ')} {shown(key[i])}")
            elif key[i] not in _OFF:
                name = shown(key[i])
                parts.append(f"{section} {name}".strip() if len(owners[name]) > 1 else name)
        named = [i for i in heads if key[i] not in _OFF]
        return " · ".join(parts if named or not heads else ["dense", *parts])

    def apart() -> int:
        return len({label(key) for key in keys})

    # The setting that tells most cells apart first; one that tells none apart is not needed.
    while rest and apart() < len(keys):
        gains = {}
        for i in rest:
            chosen.append(i)
            gains[i] = apart()
            chosen.pop()
        best = max(gains, key=lambda i: gains[i])
        rest.remove(best)
        if gains[best] > apart():
            chosen.append(best)
    chosen.sort(key=lambda i: (i not in heads, i))
    return [label(key) or "all" for key in keys]
