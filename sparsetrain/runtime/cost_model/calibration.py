"""Latency and bandwidth from measured runs, and how far the model is off."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsetrain.runtime.cost_model.arguments import at_least
from sparsetrain.runtime.cost_model.exchange import Exchange, traffic
from sparsetrain.runtime.cost_model.network import Network

# Below this angle between the columns, messages and bits cannot be told apart.
SMALLEST_SINE = 1e-6


class Measured(NamedTuple):
    """One measured exchange.

    Attributes:
      exchange: what ran.
      workers: W, at least 2.
      entries: N.
      seconds: of the network part of one round, nothing overlapping it.
      density: fraction sent.
    """

    exchange: Exchange
    workers: int
    entries: float
    seconds: float
    density: float = 1.0


class Errors(NamedTuple):
    """How far predictions are off.

    Attributes:
      relative: predicted / measured - 1, one a row.
      median: of their magnitudes.
      worst: of their magnitudes.
    """

    relative: np.ndarray
    median: float
    worst: float


def fit(rows: Sequence[Measured], name: str = "fitted") -> Network:
    """Alpha and beta of a network on which exchanges were measured.

        min over alpha, beta >= 0 of  sum_i ((alpha messages_i + bits_i / beta) / seconds_i - 1)^2

    Relative errors, because the noise of a time grows with it, and because a sum of plain squares would let the
    largest message decide alone.

    Args:
      rows: at least two, of small and large messages.
      name: of the network.

    Returns:
      Network, whose first two fields are alpha in seconds and beta in bits a second.

    Raises:
      ValueError: too few rows or too much alike, a time that is not positive, times that do not grow with the bits.

    Example:
      >>> ring = Exchange("ring")                                                 # 10 ms a message, 1 Mbit/s
      >>> rows = [Measured(ring, 2, n, 2 * 10e-3 + 32 * n / 1e6) for n in (10, 1000, 100_000)]
      >>> alpha, beta, _ = fit(rows)
      >>> print(f"{alpha:.4f} s, {beta:.0f} bit/s")
      0.0100 s, 1000000 bit/s
    """
    messages, bits, seconds = _columns(rows)
    columns = np.stack([messages, bits], axis=1) / seconds[:, None]
    lengths = np.linalg.norm(columns, axis=0)
    units = columns / lengths
    sine = np.sqrt(max(0.0, 1 - float(units[:, 0] @ units[:, 1]) ** 2))
    if len(rows) < 2 or sine < SMALLEST_SINE:
        raise ValueError(
            f"rows: {len(rows)} of one ratio of bits to messages; measure small and large messages"
        )
    solution = np.linalg.lstsq(units, np.ones(len(rows)), rcond=None)[0] / lengths
    if solution[0] < 0:
        # The nearest admissible point lies on the edge: no latency.
        solution = np.array([0.0, columns[:, 1].sum() / lengths[1] ** 2])
    if solution[1] <= 0:
        raise ValueError(
            "rows: their times do not grow with the bits; measure messages large enough to fill the link"
        )
    return Network(float(solution[0]), float(1 / solution[1]), name)


def validate(rows: Sequence[Measured], network: Network) -> Errors:
    """How far a network's predictions are from measurements, best from others than it was fitted to.

        error_i = (alpha messages_i + bits_i / beta) / seconds_i - 1

    Args:
      rows: at least one.
      network: as from `fit`, or of `NETWORKS`.

    Returns:
      Relative errors, without unit; .1 is ten percent too slow.

    Raises:
      ValueError: no rows, or a time that is not positive.

    Example:
      >>> rows = [Measured(Exchange("ring"), 2, 1e6, seconds=0.04)]
      >>> round(validate(rows, Network(latency=0.0, bandwidth=1e9)).worst, 3)
      0.2
    """
    messages, bits, seconds = _columns(rows)
    relative = np.asarray(network.seconds(messages, bits)) / seconds - 1
    sizes = np.abs(relative)
    return Errors(relative, float(np.median(sizes)), float(np.max(sizes)))


def _columns(rows: Sequence[Measured]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not rows:
        raise ValueError("rows: none; give measured exchanges")
    for row in rows:
        at_least("workers", row.workers, 2, "leave out rows of one worker, which exchanges nothing")
        at_least("seconds", row.seconds, 0, "a time that was measured", open_end=True)
    moved = [traffic(row.exchange, row.workers, row.entries, row.density) for row in rows]
    return (
        np.array([each.messages for each in moved]),
        np.array([each.bits for each in moved]),
        np.array([row.seconds for row in rows]),
    )
