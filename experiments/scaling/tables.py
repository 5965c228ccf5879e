"""Results as markdown tables, and what the cost model says of the same steps."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.cost_model.tables import factor, milliseconds
from experiments.markdown import markdown
from experiments.scaling.methods import METHODS
from sparsetrain.runtime.cost_model import Exchange, Measured, Network, fit, traffic

# Workers -> a result file.
Results = Mapping[int, Mapping[str, Any]]
PARTS = ("gradient", "selection", "exchange", "apply")
TITLES = {"lenet": "LeNet5 on MNIST", "tree": "25.2M parameters, gradients for nothing"}
# Entries of which the gathered pairs of a probe are said to be a share.
PROBED = 25_000_000


def text(found: Results) -> str:
    """All tables, each under its heading."""
    parts = []
    for workload in TITLES:
        if rows(found, workload):
            parts += [f"### {TITLES[workload]}: milliseconds a step", steps(found, workload)]
            parts += [f"### {TITLES[workload]}: where the time goes", shares(found, workload)]
    networks = fitted(found)
    if networks and 1 in found:
        parts += ["### The cost model against whole steps", predictions(found, networks)]
    return "\n\n".join(parts) + "\n"


def rows(found: Results, workload: str) -> list[tuple[int, Mapping[str, Any]]]:
    """(workers, row of the first process), the other processes' parts averaged into it."""
    made: list[tuple[int, Mapping[str, Any]]] = []
    for workers, result in sorted(found.items()):
        for number, row in enumerate(result["processes"][0]["rows"]):
            if row["workload"] == workload:
                same = [process["rows"][number] for process in result["processes"]]
                parts = {
                    name: float(np.mean([each["parts"][name] for each in same])) for name in PARTS
                }
                made.append((workers, {**row, "parts": parts}))
    return made


def seconds(row: Mapping[str, Any]) -> float:
    """Of a step: the median over periods."""
    return float(np.median(row["step_seconds"]))


def steps(found: Results, workload: str) -> str:
    """Milliseconds a step at every rate, how many times faster than dense, bytes, loss."""
    by_method: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for workers, row in rows(found, workload):
        by_method.setdefault((workers, row["method"]), {})[row["rate"]] = row
    rates = list(
        dict.fromkeys(rate for (w, _), each in by_method.items() if w > 1 for rate in each)
    )
    lines = []
    for (workers, name), each in by_method.items():
        dense = by_method[workers, "dense"]
        cells = []
        for rate in rates:
            if rate not in each:
                cells.append("-")
                continue
            times = seconds(dense[rate]) / seconds(each[rate])
            faster = "" if name == "dense" else f" ({factor(times)})"
            cells.append(f"{milliseconds(seconds(each[rate]))}{faster}")
        alone = next(iter(each.values()))
        if workers == 1:
            cells[-1:] = [milliseconds(seconds(alone))]
        lines.append(
            [
                str(workers),
                METHODS[name].label,
                *cells,
                kilobytes(alone["bits_sent"] / 8),
                kilobytes(alone["wire_bytes"]),
                kilobytes(alone["moved_bytes"]) if workers > 1 else "-",
                kilobytes(alone["link_bytes"]),
                "-" if alone["loss"] is None else f"{alone['loss']:.4f}",
            ]
        )
    headings = ["W", "method", *rates, "payload, kB", "wire, kB", "moved, kB", "link, kB", "loss"]
    return markdown(headings, lines)


def kilobytes(count: float | None) -> str:
    """Bytes a step in thousands, with three digits.

    Example:
      >>> kilobytes(1234567), kilobytes(1234), kilobytes(None)
      ('1,235', '1.23', '-')
    """
    if count is None:
        return "-"
    number = count / 1e3
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def shares(found: Results, workload: str) -> str:
    """Milliseconds of the parts of a step: at the slowest rate, and without limit."""
    lines = []
    for workers, row in rows(found, workload):
        if row["rate"] in ("100 Mbit/s", "unlimited", "loopback"):
            parts = [milliseconds(row["parts"][name]) for name in PARTS]
            link = row["rate"] if workers > 1 else "-"
            lines.append([str(workers), METHODS[row["method"]].label, link, *parts])
    return markdown(["W", "method", "link", *PARTS], lines)


def probes(found: Results) -> Iterator[tuple[int, Mapping[str, Any], float]]:
    """(workers, probe, seconds): of every call what the last to come waited, and of these the median."""
    for workers, result in sorted(found.items()):
        processes = [process["probes"] for process in result["processes"]]
        for same in zip(*processes, strict=True):
            least = np.min([probe["seconds"] for probe in same], axis=0)
            yield workers, same[0], float(np.median(least))


def measured(found: Results) -> list[dict[str, Any]]:
    """The probes as `experiments.cost_model.validation` reads them."""
    made: list[dict[str, Any]] = []
    for workers, probe, time in probes(found):
        row = {
            "network": f"{probe['rate']}, gloo",
            "exchange": {"method": probe["kind"]},
            "workers": workers,
            "entries": probe["size"],
            "seconds": time,
        }
        if probe["kind"] != "ring":
            row |= {"entries": PROBED, "density": probe["size"] / PROBED}
        made.append(row)
    return made


def fitted(found: Results) -> dict[str, Network]:
    """Rate -> latency and bandwidth, from the bare collectives of the fewest workers."""
    by_rate: dict[str, list[Measured]] = {}
    several = [row for row in measured(found) if row["workers"] > 1]
    fewest = min((row["workers"] for row in several), default=0)
    for row in several:
        if row["workers"] == fewest:
            fields = {key: row[key] for key in ("workers", "entries", "seconds")}
            exchange = Exchange(row["exchange"]["method"])
            rate = row["network"].removesuffix(", gloo")
            by_rate.setdefault(rate, []).append(
                Measured(exchange, density=row.get("density", 1.0), **fields)
            )
    return {rate: fit(rows, rate) for rate, rows in by_rate.items()}


def predictions(found: Results, networks: Mapping[str, Network]) -> str:
    """Measured steps against the processor's time of one worker and the network of two.

    Returns:
      A table, and the median and the largest error under it.
    """
    lines, errors = [], []
    for workload in TITLES:
        every = rows(found, workload)
        alone = {row["method"]: row["parts"] for workers, row in every if workers == 1}
        for workers, row in every:
            if workers == 1 or row["rate"] not in networks or row["method"] not in alone:
                continue
            method, network = METHODS[row["method"]], networks[row["rate"]]
            # Workers beyond the cores take turns on them.
            turns = max(1.0, workers / found[workers]["cores"])
            own = turns * sum(alone[row["method"]].values())
            moved = traffic(Exchange(method.model), workers, row["entries"], method.density)
            wire = float(network.seconds(moved.messages, moved.bits)) / method.every
            error = (own + wire) / seconds(row) - 1
            errors.append(abs(error))
            lines.append(
                [
                    TITLES[workload].split()[0],
                    str(workers),
                    method.label,
                    row["rate"],
                    milliseconds(own),
                    milliseconds(wire),
                    milliseconds(own + wire),
                    milliseconds(seconds(row)),
                    f"{error:+.0%}",
                ]
            )
    headings = ["", "W", "method", "link", "processor", "network", "predicted", "measured", "error"]
    note = f"Error {np.median(errors):.0%} in the median, {max(errors):.0%} at worst."
    links = "; ".join(
        f"{rate}: {1e6 * n.latency:.0f} us, {n.bandwidth / 1e6:,.0f} Mbit/s"
        for rate, n in networks.items()
    )
    return f"{markdown(headings, lines)}\n\n{note} Fitted at two workers: {links}."
