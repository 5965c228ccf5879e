"""Where sparse begins to win."""

import numpy as np

from sparsetrain.runtime.cost_model.arguments import Numbers, at_least
from sparsetrain.runtime.cost_model.exchange import Exchange
from sparsetrain.runtime.cost_model.network import Network
from sparsetrain.runtime.cost_model.prediction import Work, predict

# Both, because a library takes the better one: against a ring alone, anything looks good with many workers.
DENSE = (Exchange("ring"), Exchange("halving_doubling"))
HALVINGS = 100  # of the logarithm of the density: far below the last bit


def crossover(
    exchange: Exchange,
    network: Network,
    *,
    workers: Numbers,
    entries: Numbers,
    work: Work = Work(),  # noqa: B008 (a tuple of numbers)
    against: tuple[Exchange, ...] = DENSE,
) -> Numbers:
    """Largest density at which a sparse exchange costs no more than the best dense one.

        max p:  cost(p) <= min over `against` of their cost

    Args:
      exchange: a sparse method with its options.
      network: alpha and beta.
      workers: W, at least 2: one worker alone has nothing to gain.
      entries: N.
      work: seconds of the processor. A selection that is given as a function must not fall with the density.
      against: what it has to beat; by default a ring and recursive halving and doubling, in one piece.

    Returns:
      Densities, of the shape to which `workers` and `entries` broadcast. 0 where sparse loses even with a single
      entry, 1 where it wins with all of them.

    Raises:
      ValueError: a number out of range, a dense method, nothing to beat.

    Example:
      >>> free = Network(latency=0.0, bandwidth=1e9)                               # bits alone
      >>> float(round(crossover(Exchange("top_k"), free, workers=16, entries=1e6), 6))
      0.0625
    """
    if exchange.is_dense:
        raise ValueError(f"exchange={exchange.method}: has no density; give a sparse method")
    if not against:
        raise ValueError("against=(): name at least one exchange to beat")
    workers = at_least("workers", workers, 2, "one worker alone exchanges nothing")
    entries = at_least("entries", entries, 1, "it is the number of parameters")
    shape = np.broadcast_shapes(np.shape(workers), np.shape(entries))
    dense = np.min(
        [
            np.broadcast_to(
                predict(each, network, workers=workers, entries=entries, work=work).communication,
                shape,
            )
            for each in against
        ],
        axis=0,
    )

    def wins(density: np.ndarray) -> np.ndarray:
        cost = predict(
            exchange, network, workers=workers, entries=entries, density=density, work=work
        )
        return np.asarray(cost.communication <= dense)

    # log2 of densities that win (low) and that lose (high).
    low = np.broadcast_to(-np.log2(entries), shape).copy()
    high = np.zeros(shape)
    never, always = ~wins(2.0**low), wins(2.0**high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_cheap = wins(2.0**middle)
        low, high = np.where(is_cheap, middle, low), np.where(is_cheap, high, middle)
    return np.where(never, 0.0, np.where(always, 1.0, 2.0**low))[()]
