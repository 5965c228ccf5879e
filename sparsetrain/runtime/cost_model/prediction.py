"""Seconds of a training step: what is measured on the machine, and what the network adds."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparsetrain.runtime.cost_model.arguments import Numbers, at_least
from sparsetrain.runtime.cost_model.exchange import Exchange, traffic
from sparsetrain.runtime.cost_model.network import Network


class Work(NamedTuple):
    """What the processor does, as measured; zeros are the limit that no processor beats.

    Attributes:
      selection: seconds of selecting and encoding one message; or density -> seconds.
      scatter: seconds an entry of a message takes to be decoded and added to a dense vector.
      merge: seconds an entry of a message takes to be merged with another message, and the union cut to k.
      add: seconds an entry of a dense vector takes to be added.
      compute: seconds of forward pass, backward pass and optimizer of one step.
      backward: seconds of it in which gradients come out one after the other.
    """

    selection: Numbers | Callable[[Numbers], Numbers] = 0.0
    scatter: float = 0.0
    merge: float = 0.0
    add: float = 0.0
    compute: float = 0.0
    backward: float = 0.0


class Cost(NamedTuple):
    """Seconds of one optimizer step; of a round with local steps, its share.

    Attributes:
      selection: choosing what to send, and encoding it.
      exchange: waiting for the network.
      apply: decoding and adding what came in.
      compute: the step itself, as given.
      hidden: network time that passed under the backward pass; part of no sum.
    """

    selection: Numbers
    exchange: Numbers
    apply: Numbers
    compute: Numbers
    hidden: Numbers

    @property
    def communication(self) -> Numbers:
        """What a worker alone would not pay: selection + exchange + apply."""
        return self.selection + self.exchange + self.apply

    @property
    def step(self) -> Numbers:
        """Time of a whole step."""
        return self.compute + self.communication


def predict(
    exchange: Exchange,
    network: Network,
    *,
    workers: Numbers,
    entries: Numbers,
    density: Numbers = 1.0,
    work: Work = Work(),  # noqa: B008 (a tuple of numbers)
) -> Cost:
    """Seconds of a step.

        wire      = alpha messages + bits / beta
        exchange  = max(wire / L, wire - overlap backward (L - 1) / L)          L = pieces; wire, if L = 1
        apply     = scatter entries + merge entries + add entries
        all three = their cost / local_steps

    The second line is a pipeline of two stages and L equal pieces: the network carries one while the backward pass
    makes the next; the last piece has nothing left to hide under.

    Args:
      exchange: method and options.
      network: alpha and beta.
      workers: W, at least 1.
      entries: N.
      density: fraction sent, 0 < density <= 1; ignored by dense methods.
      work: seconds of the processor, as measured; without it only the network counts.

    Returns:
      Seconds a step, of the shape to which the arguments broadcast. With one worker nothing is exchanged, but what
      was selected is paid for.

    Raises:
      ValueError: a number out of range.

    Example:
      >>> from sparsetrain.runtime.cost_model import NETWORKS
      >>> setting = dict(workers=16, entries=25.6e6, density=0.001, work=Work(selection=0.2))
      >>> for method in ("ring", "top_k"):
      ...     cost = predict(Exchange(method), NETWORKS["1 GbE"], **setting)
      ...     print(f"{method}: {cost.selection:.2f} + {cost.exchange:.2f} s")
      ring: 0.00 + 1.54 s
      top_k: 0.20 + 0.02 s
    """
    compute = at_least("compute", work.compute, 0, "in seconds a step")
    backward = at_least("backward", work.backward, 0, "in seconds a step")
    if np.any(backward > compute):
        raise ValueError(
            f"backward={work.backward}: must not exceed compute={work.compute}, of which it is a part"
        )
    moved = traffic(exchange, workers, entries, density)
    wire = network.seconds(moved.messages, moved.bits)
    pieces = exchange.pieces
    window = exchange.overlap * backward * (pieces - 1) / pieces
    waited = np.maximum(wire / pieces, wire - window)
    scatter, merge, add = (
        at_least(name, getattr(work, name), 0, "in seconds an entry, so 5 ns is 5e-9")
        for name in ("scatter", "merge", "add")
    )
    apply = scatter * moved.scattered + merge * moved.merged + add * moved.summed
    selection = _selection(exchange, work, density)
    shape = np.broadcast_shapes(*(np.shape(part) for part in (waited, apply, selection, compute)))
    n = exchange.local_steps
    parts = (selection / n, waited / n, apply / n, compute, (wire - waited) / n)
    return Cost(*(np.broadcast_to(np.asarray(part, np.float64), shape)[()] for part in parts))


def _selection(exchange: Exchange, work: Work, density: Numbers) -> Numbers:
    if exchange.is_dense:
        return 0.0
    seconds = work.selection(density) if callable(work.selection) else work.selection
    return at_least("selection", seconds, 0, "in seconds a message")
