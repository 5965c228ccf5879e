"""Results as markdown tables."""

from collections.abc import Mapping

import numpy as np

from experiments.markdown import difference, markdown, spread
from experiments.sbc_lenet_mnist.methods import METHODS
from experiments.sbc_lenet_mnist.results import Record, Runs, values
from experiments.statistics import paired_difference

# Per entry, as the paper counts gradient dropping and DGC: 16 bits of position, 32 of value.
PAPER_BITS = 48


def times(factor: float) -> str:
    """A compression factor.

    Example:
      >>> times(2784.24), times(9.96)
      ('x2,784', 'x10.0')
    """
    return f"x{factor:,.0f}" if factor >= 100 else f"x{factor:.1f}"


def mean(numbers: Mapping[int, float]) -> float:
    """Mean over seeds."""
    return float(np.mean(list(numbers.values())))


def parameters(record: Record) -> int:
    """Number of parameters of the network."""
    return sum(tensor["entries"] for tensor in record["tensors"].values())


def paper_count(record: Record) -> float:
    """Compression by the paper's count of 48 bits an entry."""
    sent = sum(tensor["sent"] for tensor in record["tensors"].values())
    return 32 * parameters(record) * record["iterations"] / (PAPER_BITS * sent)


def main(runs: Runs) -> str:
    """Accuracy and compression of every method.

    Args:
      runs: as from `results.load`.
    """
    dense = values(runs.get("dense", {}), "test_accuracy", 100)
    rows = []
    for name, mine in runs.items():
        how = METHODS[name]
        ratio = mean(values(mine, "compression_ratio"))
        sparse = how.kind in ("dropping", "dgc")
        rows.append(
            [
                how.label,
                str(how.every),
                f"{how.density:g}",
                str(len(mine)),
                spread(values(mine, "test_accuracy", 100)),
                "-"
                if name == "dense"
                else difference(paired_difference(values(mine, "test_accuracy", 100), dense)),
                f"{mean(values(mine, 'bits', 1e-6)):,.2f}",
                f"{mean(values(mine, 'wire_bytes', 1e-3)):,.1f}",
                times(ratio),
                times(mean(values(mine, "wire_ratio"))),
                times(float(np.mean([paper_count(r) for r in mine.values()]))) if sparse else "-",
                times(how.factor()),
                f"{100 * ratio / how.factor():.0f}%",
            ]
        )
    headings = ["method", "n", "density", "seeds", "test accuracy, %", "minus dense", "Mbit sent"]
    headings += ["kB on the wire", "ratio, bits", "ratio, wire", "at 48 bits an entry"]
    return markdown([*headings, "in theory", "reached"], rows)


def tensors(runs: Runs) -> str:
    """Compression tensor by tensor of the SBC methods: measured bits of all messages of a run, over seeds.

    Args:
      runs: as from `results.load`.
    """
    chosen = {name: mine for name, mine in runs.items() if METHODS[name].kind == "sbc"}
    first = next(iter(next(iter(chosen.values())).values()))
    by_size = sorted(first["tensors"], key=lambda name: -first["tensors"][name]["entries"])
    rows = []
    for tensor in by_size:
        entries = first["tensors"][tensor]["entries"]
        row = [tensor, f"{entries:,}"]
        for name, mine in chosen.items():
            how = METHODS[name]
            bits = float(np.mean([r["tensors"][tensor]["bits"] for r in mine.values()]))
            sent = float(np.mean([r["tensors"][tensor]["sent"] for r in mine.values()]))
            rounds = first["iterations"] // how.every
            ratio = 32 * entries * first["iterations"] / bits
            row += [f"{sent / rounds:.4g}", f"{times(ratio)} ({100 * ratio / how.factor():.0f}%)"]
        rows.append(row)
    headings = ["tensor", "entries"]
    for name in chosen:
        how = METHODS[name]
        headings += [f"{how.label}: sent a message", f"ratio (of {times(how.factor())})"]
    return markdown(headings, rows)


def shared(runs: Runs) -> str:
    """The last message made again with means or shares in common.

    Args:
      runs: as from `results.load`.
    """
    rows = []
    for name, mine in runs.items():
        how = METHODS[name]
        if how.kind != "sbc":
            continue
        first = next(iter(mine.values()))
        for way in first["shared"]:
            found = {
                field: float(np.mean([r["shared"][way][field] for r in mine.values()]))
                for field in ("bits", "entries", "captured")
            }
            ratio = 32 * parameters(first) * how.every / found["bits"]
            rows.append(
                [
                    how.label,
                    way,
                    f"{found['entries']:,.0f}",
                    f"{found['bits']:,.0f}",
                    f"{found['bits'] / found['entries']:.2f}",
                    f"{times(ratio)} ({100 * ratio / how.factor():.0f}%)",
                    f"{100 * found['captured']:.2f}",
                ]
            )
    headings = [
        "method",
        "means",
        "entries",
        "bits",
        "bits an entry",
        "ratio",
        "captured of the squared norm, %",
    ]
    return markdown(headings, rows)
