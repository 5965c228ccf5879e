"""The model against measured exchanges."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.cost_model.tables import milliseconds, percent
from experiments.markdown import markdown
from sparsetrain.runtime.cost_model import Exchange, Measured, fit, validate


def read(path: Path) -> dict[str, list[Measured]]:
    """Network -> rows.

    Args:
      path: of a JSON file, a list of objects: "network" (any name), "exchange" (the arguments of `Exchange`), and
        the other fields of `Measured`.

    Raises:
      ValueError: a row that does not say all that is needed.
    """
    rows: dict[str, list[Measured]] = {}
    for number, row in enumerate(json.loads(path.read_text())):
        try:
            rows.setdefault(row["network"], []).append(_measured(row))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, row {number}: {error!r}; see {read.__module__}.read"
            ) from error
    return rows


def _measured(row: Mapping[str, Any]) -> Measured:
    fields = {name: row[name] for name in Measured._fields if name in row and name != "exchange"}
    return Measured(Exchange(**row["exchange"]), **fields)


def table(rows: Mapping[str, Iterable[Measured]]) -> str:
    """Measured and predicted, each network fitted to the rows of its fewest workers and asked for all."""
    lines, notes = [], []
    for name, mine in rows.items():
        found = list(mine)
        fewest = min(row.workers for row in found)
        network = fit([row for row in found if row.workers == fewest], name)
        errors = validate(found, network)
        for row, error in zip(found, errors.relative, strict=True):
            lines.append(
                [
                    name,
                    f"{row.workers:,}",
                    row.exchange.method,
                    f"{row.entries:,.0f}",
                    "-" if row.exchange.is_dense else percent(row.density),
                    milliseconds(row.seconds),
                    milliseconds(row.seconds * (1 + float(error))),
                    f"{error:+.0%}",
                    "fitted" if row.workers == fewest else "predicted",
                ]
            )
        notes.append(
            f"{name}: latency {1e6 * network.latency:.0f} us, {network.bandwidth / 1e9:.3g} Gbit/s;"
            f" error {errors.median:.0%} in the median, {errors.worst:.0%} at worst."
        )
    headings = ["network", "W", "method", "N", "density", "measured, ms", "model, ms", "error", ""]
    return "\n".join((markdown(headings, lines), "", *notes))
