"""The predictions as markdown."""

from collections.abc import Callable, Iterable, Sequence

from experiments.cost_model.times import CPU, DENSITIES, ENTRIES, FREE, TENSORS, processor
from experiments.markdown import markdown
from sparsetrain.runtime.cost_model import NETWORKS, Exchange, Network, Work, predict

WORKERS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FEW = (4, 16, 64, 256, 1024)
DENSE = (Exchange("ring"), Exchange("halving_doubling"))
# Those that exchange after every step and wait for the whole gradient.
EVERY_STEP = tuple(Exchange(method) for method in ("top_k", "gtop_k", "ok_topk"))
LABELS = {
    "ring": "dense",
    "halving_doubling": "dense",
    "top_k": "top-k",
    "gtop_k": "gTop-k",
    "ok_topk": "Ok-Topk",
    "dls": "DLS",
    "sbc": "SBC",
}
BACKWARD = 0.05  # s, assumed: about what a GPU takes for ResNet-50 and 64 images
BUCKETS = 4  # of 25 MB, as data-parallel libraries cut the gradient


def seconds(exchange: Exchange, network: Network, workers: int, density: float, name: str) -> float:
    """Selection + exchange + apply of a step."""
    work = processor(name, exchange, density)
    cost = predict(exchange, network, workers=workers, entries=ENTRIES, density=density, work=work)
    return float(cost.communication)


def best(
    exchanges: Iterable[Exchange],
    network: Network,
    workers: int,
    density: float,
    name: str,
) -> tuple[float, str]:
    """The quickest of several, the first of equals: its seconds and its label."""
    times = {each: seconds(each, network, workers, density, name) for each in exchanges}
    quickest = min(times, key=lambda each: times[each])
    return times[quickest], LABELS[quickest.method]


def factor(ratio: float) -> str:
    """Times faster.

    Example:
      >>> factor(2.345), factor(41.2)
      ('2.3x', '41x')
    """
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:.0f}x"


def percent(density: float) -> str:
    """A density in per cent.

    Example:
      >>> percent(0.001), percent(0.01)
      ('0.1%', '1%')
    """
    return f"{100 * density:g}%"


def milliseconds(time: float) -> str:
    """Seconds as milliseconds with three digits.

    Example:
      >>> milliseconds(1.5936), milliseconds(0.000123)
      ('1,594', '0.123')
    """
    number = 1e3 * time
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def rows_of(cell: Callable[[Network, int], str], workers: Sequence[int]) -> list[list[str]]:
    """A row for each number of workers, a cell for each network."""
    return [
        [f"{count:,}", *(cell(network, count) for network in NETWORKS.values())]
        for count in workers
    ]


def winners(density: float, name: str) -> str:
    """Who wins, and how much faster than the best dense all-reduce; "dense" where no sparse method does."""

    def cell(network: Network, workers: int) -> str:
        dense, _ = best(DENSE, network, workers, density, name)
        sparse, label = best(EVERY_STEP, network, workers, density, name)
        return f"{label} {factor(dense / sparse)}" if sparse < dense else "dense"

    return markdown(["W", *NETWORKS], rows_of(cell, WORKERS))


def budgets(density: float) -> str:
    """Milliseconds that selecting and adding may take before the best sparse exchange loses to the best dense one."""

    def cell(network: Network, workers: int) -> str:
        dense, _ = best(DENSE, network, workers, density, FREE)
        sparse, _ = best(EVERY_STEP, network, workers, density, FREE)
        return milliseconds(dense - sparse) if sparse < dense else "none"

    return markdown(["W", *NETWORKS], rows_of(cell, FEW))


def overlapped(density: float) -> str:
    """Dense and DLS, both hidden under the backward pass as far as they can be: milliseconds that are waited."""
    work = Work(compute=BACKWARD, backward=BACKWARD)
    dense = [Exchange(each.method, pieces=BUCKETS, overlap=1.0) for each in DENSE]
    layers = Exchange("dls", pieces=TENSORS, overlap=1.0)

    def waited(exchange: Exchange, network: Network, workers: int) -> float:
        cost = predict(
            exchange, network, workers=workers, entries=ENTRIES, density=density, work=work
        )
        return float(cost.exchange)

    def cell(network: Network, workers: int) -> str:
        first = min(waited(each, network, workers) for each in dense)
        return f"{milliseconds(first)} / {milliseconds(waited(layers, network, workers))}"

    return markdown(["W", *NETWORKS], rows_of(cell, FEW))


def delayed(name: str) -> str:
    """Local steps: milliseconds a step on one processor, dense beside SBC."""
    kinds = [
        ("dense, every step", DENSE, 0.01),
        ("SBC(1): 0.1%, every step", (_sbc(1),), 0.001),
        ("dense, every 10 (FedAvg)", _every(10), 0.01),
        ("SBC(2): 1%, every 10", (_sbc(10),), 0.01),
        ("dense, every 100 (FedAvg)", _every(100), 0.01),
        ("SBC(3): 1%, every 100", (_sbc(100),), 0.01),
    ]
    rows = []
    for workers in (4, 64, 1024):
        for label, exchanges, density in kinds:
            cells = (
                milliseconds(best(exchanges, network, workers, density, name)[0])
                for network in NETWORKS.values()
            )
            rows.append([f"{workers:,}", label, *cells])
    return markdown(["W", "method", *NETWORKS], rows)


def _every(steps: int) -> tuple[Exchange, ...]:
    return tuple(Exchange(each.method, local_steps=steps) for each in DENSE)


def _sbc(steps: int) -> Exchange:
    return Exchange("sbc", header_bits=32 * TENSORS, local_steps=steps)


def all_times(density: float, name: str) -> str:
    """Milliseconds of every method that exchanges after every step."""
    exchanges = (*DENSE, *EVERY_STEP, Exchange("dls", pieces=TENSORS), _sbc(1))
    rows = []
    for network in NETWORKS.values():
        for workers in WORKERS:
            cells = (
                milliseconds(seconds(each, network, workers, density, name)) for each in exchanges
            )
            rows.append([network.name, f"{workers:,}", *cells])
    return markdown(["network", "W", *(each.method for each in exchanges)], rows)


def text() -> str:
    """All tables but the long one, under their headings."""
    parts = []
    for name, note in ((FREE, "the network alone: selecting and adding cost nothing"), (CPU, CPU)):
        for density in DENSITIES:
            parts.append(
                f"### Winner after every step, density {percent(density)}, {note}\n\n{winners(density, name)}"
            )
    for density in DENSITIES:
        parts.append(
            f"### Milliseconds that selecting and adding may take, density {percent(density)}\n\n{budgets(density)}"
        )
    for density in DENSITIES:
        parts.append(
            f"### Milliseconds waited with overlap, dense / DLS, density {percent(density)}\n\n{overlapped(density)}"
        )
    for name in (FREE, CPU):
        parts.append(
            f"### Milliseconds a step with local steps, processor: {name}\n\n{delayed(name)}"
        )
    return "\n\n".join(parts) + "\n"


def long_text() -> str:
    """Every method on every network."""
    return (
        "\n\n".join(
            f"## Milliseconds a step, density {percent(density)}, processor: {name}\n\n{all_times(density, name)}"
            for name in (FREE, CPU)
            for density in DENSITIES
        )
        + "\n"
    )
