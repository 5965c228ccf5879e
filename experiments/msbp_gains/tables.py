"""Results as markdown tables."""

from collections.abc import Iterator, Sequence

import numpy as np

from experiments.markdown import difference, markdown, spread
from experiments.msbp_gains.comparisons import CAUSES, EXPLORED, GAINS, Comparison, Side, pair
from experiments.msbp_gains.results import Finding, Results, findings
from experiments.msbp_gains.runs import DENSE, DENSITIES, SETUPS, msbp, sbp

RATES = {"a": "a: 1e-3", "b": "b: its own tuned", "c": "c: dense's tuned", "m": "main's tuned"}


def p_value(p: float) -> str:
    """A p-value as tables show it.

    Example:
      >>> p_value(0.0213), p_value(1e-7), p_value(1.0)
      ('.021', '< .001', '1')
    """
    if p < 0.001:
        return "< .001"
    return "1" if p >= 0.9995 else f"{p:.3f}".lstrip("0")


def tests(found: Finding) -> list[str]:
    """The difference with its interval, and the corrected p-values of both tests."""
    return [difference(found.interval), p_value(found.holm.t), p_value(found.holm.wilcoxon)]


HOLM = ["minus, points", "Holm p, t-test", "Holm p, Wilcoxon"]


def side_label(results: Results, side: Side) -> str:
    """Method, setup and learning rate of a side."""
    settled = results.settled(side)
    setup = "" if settled.setup == "main" else f", {settled.setup}"
    chosen = ", the best regularised" if side.setup == "regularised" else ""
    return f"{settled.method.label}{setup}{chosen} at {results.rate(side):g}"


def gains(results: Results) -> str:
    """Family 1: MSBP minus dense and minus SBP by density and learning rate."""
    lines = []
    for found in findings(results, GAINS):
        ours, theirs = found.comparison.ours, found.comparison.theirs
        row = [RATES[ours.at], f"{ours.method.density:g}", theirs.method.label.split(" ")[0]]
        accuracies = [spread(results.values(side)) for side in (ours, theirs)]
        rates = f"{results.rate(ours):g} / {results.rate(theirs):g}"
        lines.append([*row, rates, *accuracies, *tests(found)])
    headings = ["learning rates", "density", "against", "of MSBP / of the other"]
    return markdown([*headings, "MSBP, %", "the other, %", *HOLM], lines)


def causes(results: Results) -> str:
    """Family 2: the controls of each explanation."""
    lines = []
    for found in findings(results, CAUSES):
        question, ours, theirs = found.comparison
        sides = [side_label(results, side) for side in (ours, theirs)]
        lines.append([question, *sides, spread(results.values(ours)), *tests(found)])
    return markdown(["explanation", "this", "minus this", "the first, %", *HOLM], lines)


def explored(results: Results) -> str:
    """Not planned as tests: intervals without correction."""
    lines = []
    for found in findings(results, EXPLORED):
        question, ours, theirs = found.comparison
        sides = [side_label(results, side) for side in (ours, theirs)]
        lines.append([question, *sides, spread(results.values(ours)), difference(found.interval)])
    headings = ["about", "this", "minus this", "the first, %", "minus, points"]
    return markdown(headings, lines)


def by_epoch(results: Results) -> str:
    """MSBP minus dense and minus SBP after so many epochs, and at the end of training."""
    epochs = [e for e in (1, 2, 5, 10, 20) if e <= SETUPS["main"].epochs]
    fields = [f"curve {epoch}" for epoch in epochs]
    lines = []
    for at in "ab":
        for density in DENSITIES:
            for other in (DENSE, sbp(density)):
                each = pair("", "main", msbp(density), other, at)
                row = [RATES[at], f"{density:g}", other.label.split(" ")[0]]
                differences = list(_differences(results, each, fields))
                if differences:
                    lines.append([*row, *differences])
    return markdown(["learning rates", "density", "against", *map(str, epochs)], lines)


def _differences(results: Results, each: Comparison, fields: Sequence[str]) -> Iterator[str]:
    for field in fields:
        for found in findings(results, [each], field):
            yield difference(found.interval)


def tuning(results: Results) -> str:
    """Mean validation accuracy of every learning rate; the chosen one bold, and whether it stands at an edge."""
    lines = []
    for (setup, method), content in results.tuning.items():
        means = 100 * np.mean(content["validation"], axis=1)
        best = int(np.argmax(means))
        cells = [f"**{x:.2f}**" if i == best else f"{x:.2f}" for i, x in enumerate(means)]
        edge = "yes" if best in (0, len(means) - 1) else ""
        lines.append((setup, method, [f"{content['rates'][best]:g}", edge, *cells]))
    order = list(SETUPS)
    lines.sort(
        key=lambda line: (order.index(line[0]), line[1].name, line[1].density, line[1].decay)
    )
    headings = ["setup", "method", "chosen", "at the edge"]
    headings += ["lowest", *(f"x {2**i}" for i in range(1, 7))]
    return markdown(headings, [[setup, method.label, *cells] for setup, method, cells in lines])


def text(results: Results) -> str:
    """All tables under their headings; those without results are left out."""
    parts = [
        ("Family 1: does MSBP gain over dense training and over SBP?", gains(results)),
        ("Family 2: the controls", causes(results)),
        (
            "Explored: MSBP (decay .8) minus the other after so many epochs, points",
            by_epoch(results),
        ),
        ("Explored: decay, longer training, SBP against dense", explored(results)),
        ("Learning rates: mean validation accuracy over the tuning seeds, %", tuning(results)),
    ]
    shown = [f"### {title}\n\n{table}\n" for title, table in parts if table.count("\n") > 1]
    return "\n".join(shown)
