"""How many messages and bits each method moves: the only place where methods differ.

Every worker has one link and sends while it receives. What counts is the busiest worker: the messages that it must
wait for one after the other, and the bits that come in over its link. W workers, N entries, k = density N of them sent
(not rounded: a model), v bits a value, e bits a value with its position.

| method             | messages                     | bits                        | entries added       |
| ------------------ | ---------------------------- | --------------------------- | ------------------- |
| `ring`             | 2 (W - 1)                    | 2 N v (W - 1) / W           | N (W - 1) / W dense |
| `halving_doubling` | 2 log2 W                     | 2 N v (W - 1) / W           | N (W - 1) / W dense |
| `top_k`, `sbc`     | log2 W                       | (W - 1) k e                 | W k                 |
| `dls`              | log2 W for each piece        | (W - 1) k e                 | W k                 |
| `gtop_k`           | log2 W                       | k e log2 W                  | k, k log2 W merged  |
| `ok_topk`          | 2 W + 2 log2 W at the most   | 3 k e (W - 1) / W, the same | 2 k                 |

Logarithms are rounded up. Where W is no power of two, `halving_doubling` and `gtop_k` round them down, and the workers
that are too many hand everything to a partner before and get everything back after: two messages more.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from sparsetrain.runtime.cost_model.arguments import Numbers, at_least, density_in_range

WORD = 32.0  # bits of a float32 and of an int32


class Traffic(NamedTuple):
    """What one exchange moves, of the busiest worker.

    Attributes:
      messages: that follow one another.
      bits: that come in.
      scattered: (value, position) entries that are decoded and added to a dense vector.
      merged: entries of a message that are merged with as many of this worker's.
      summed: entries of dense vectors that are added.
    """

    messages: Numbers
    bits: Numbers
    scattered: Numbers
    merged: Numbers
    summed: Numbers


class _Sizes(NamedTuple):
    workers: Numbers
    pieces: Numbers  # in which a worker's message travels
    dense: Numbers  # bits of all values
    message: Numbers  # bits of a worker's sparse message
    entries: Numbers  # N
    kept: Numbers  # k


def _ring(s: _Sizes) -> Traffic:
    share = (s.workers - 1) / s.workers
    return Traffic(2 * (s.workers - 1) * s.pieces, 2 * share * s.dense, 0, 0, share * s.entries)


def _halving_doubling(s: _Sizes) -> Traffic:
    rounds, spare = _rounds_down(s.workers)
    share = 1 - 2.0**-rounds
    messages = 2 * (rounds + spare) * s.pieces
    return Traffic(messages, 2 * (share + spare) * s.dense, 0, 0, (share + spare) * s.entries)


def _all_gather(s: _Sizes) -> Traffic:
    # By doubling, which Bruck's algorithm does for any W: a ring has the same bits and W - 1 messages.
    messages = np.ceil(np.log2(s.workers)) * s.pieces
    return Traffic(messages, (s.workers - 1) * s.message, s.workers * s.kept, 0, 0)


def _merge_tree(s: _Sizes) -> Traffic:
    rounds, spare = _rounds_down(s.workers)
    messages = rounds + 2 * spare
    return Traffic(messages, messages * s.message, s.kept, (rounds + spare) * s.kept, 0)


def _balanced(s: _Sizes) -> Traffic:
    # Split and reduce: k (W - 1) / W entries; balance and all-gather: at the most twice that.
    several = s.workers > 1
    messages = several * (2 * s.workers + 2 * np.ceil(np.log2(s.workers)))
    return Traffic(messages, 3 * (s.workers - 1) / s.workers * s.message, 2 * s.kept, 0, 0)


def _rounds_down(workers: Numbers) -> tuple[Any, Any]:
    rounds = np.floor(np.log2(workers))
    return rounds, 1.0 * (workers > 2.0**rounds)


class _Method(NamedTuple):
    traffic: Callable[[_Sizes], Traffic]
    is_dense: bool = False
    in_pieces: bool = False  # whether a piece may leave before the last one is known
    value_bits: float = WORD
    position_bits: float | Literal["golomb"] = WORD
    header_bits: float = 0.0


_METHODS = {
    "ring": _Method(_ring, is_dense=True, in_pieces=True, position_bits=0.0),
    "halving_doubling": _Method(
        _halving_doubling, is_dense=True, in_pieces=True, position_bits=0.0
    ),
    "top_k": _Method(_all_gather),
    "gtop_k": _Method(_merge_tree),
    "ok_topk": _Method(_balanced),
    "dls": _Method(_all_gather, in_pieces=True),
    # Positions and one mean: what all entries have in common.
    "sbc": _Method(_all_gather, value_bits=0.0, position_bits="golomb", header_bits=WORD),
}
METHODS = tuple(_METHODS)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A method with its options.

    Args:
      method: of `METHODS`.
      value_bits: of an entry's value; None for the method's own: 32, and 0 for SBC.
      position_bits: of an entry's position, or "golomb" for the mean of the best Golomb code at the density; None for
        the method's own: 32, and "golomb" for SBC. Ignored by dense methods.
      header_bits: of a worker's whole message beside its entries; None for the method's own: 0, and 32 for SBC,
        which sends a mean for each tensor (161 tensors: 161 * 32).
      pieces: messages that the tree is cut into, so that one may leave as soon as its gradient is known. Only
        `ring`, `halving_doubling` (buckets) and `dls` (layers) can: the others select over, or wait for, the whole.
      overlap: share of the backward pass under which messages may hide, 0 to 1. What may: the messages of all
        layers but the one whose gradient comes last. What may not: selection and adding up, which the same processor
        does, and any method with `pieces=1`.
      local_steps: n, optimizer steps for each exchange; all costs of an exchange are shared out over them.

    Raises:
      ValueError: an unknown method, a negative size, pieces or overlap where the method has none.

    Example:
      >>> Exchange("dls", pieces=161, overlap=1.0).is_dense
      False
    """

    method: str
    _: dataclasses.KW_ONLY
    value_bits: float | None = None
    position_bits: float | Literal["golomb"] | None = None
    header_bits: float | None = None
    pieces: int = 1
    overlap: float = 0.0
    local_steps: int = 1

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"method={self.method!r}: must be one of {', '.join(METHODS)}")
        for name in ("value_bits", "position_bits", "header_bits"):
            value = getattr(self, name)
            if value is not None and not (name == "position_bits" and value == "golomb"):
                at_least(name, value, 0, "leave it out for what the method sends")
        at_least("pieces", self.pieces, 1, "1 sends everything at once")
        at_least("local_steps", self.local_steps, 1, "1 exchanges after every step")
        if not 0 <= self.overlap <= 1:
            raise ValueError(
                f"overlap={self.overlap:g}: must lie in [0, 1], a share of the backward pass"
            )
        if self.pieces > 1 and not _METHODS[self.method].in_pieces:
            able = [name for name, each in _METHODS.items() if each.in_pieces]
            raise ValueError(
                f"pieces={self.pieces}: {self.method} needs the whole gradient; only {', '.join(able)} send pieces"
            )
        if self.overlap > 0 and self.local_steps > 1:
            raise ValueError(
                f"overlap={self.overlap:g}: what {self.local_steps} local steps have changed is known after the last"
                " one; leave it at 0"
            )

    @property
    def is_dense(self) -> bool:
        """Whether nothing is selected."""
        return _METHODS[self.method].is_dense


def traffic(
    exchange: Exchange, workers: Numbers, entries: Numbers, density: Numbers = 1.0
) -> Traffic:
    """Messages and bits of one exchange, after however many local steps.

    See the table at the top of this file.

    Args:
      exchange: method and options.
      workers: W, at least 1.
      entries: N.
      density: fraction sent, 0 < density <= 1; ignored by dense methods.

    Returns:
      Counts for the busiest worker, of the shape to which the arguments broadcast.

    Raises:
      ValueError: a number out of range.

    Differs from the papers:
      1. gTop-k: partners exchange, as `compress.global_merge_top_k` does; with a tree and a broadcast messages and
         bits would double.
      2. Ok-Topk: its upper limit, which it comes below where the sums are balanced already; just as many bits as the
         slots of `compress.ok_top_k` take, in an all-to-all and an all-gather.

    Reference: Thakur, Rabenseifner, Gropp, Optimization of collective communication operations in MPICH (2005), for
    the all-reduce and the all-gather; Shi et al. (arXiv 1901.04359) for gTop-k; Li and Hoefler, Near-optimal
    sparse allreduce (arXiv 2201.07598), equations 1 to 3, for Ok-Topk.

    Example:
      >>> moved = traffic(Exchange("ring"), workers=4, entries=1000)
      >>> int(moved.messages), int(moved.bits)                                     # 2 * 1000 * 3/4 words of 32 bits
      (6, 48000)
    """
    workers = at_least("workers", workers, 1, "count this worker too")
    entries = at_least("entries", entries, 1, "it is the number of parameters")
    density = density_in_range(density)
    method = _METHODS[exchange.method]
    value = _given(exchange.value_bits, method.value_bits)
    position = 0.0 if method.is_dense else _given(exchange.position_bits, method.position_bits)
    if isinstance(position, str):
        position = _golomb_bits(density)
    kept = density * entries
    message = kept * (value + position) + _given(exchange.header_bits, method.header_bits)
    sizes = _Sizes(workers, exchange.pieces, entries * value, message, entries, kept)
    shape = np.broadcast_shapes(np.shape(workers), np.shape(entries), np.shape(density))
    counts = (np.asarray(count, np.float64) for count in method.traffic(sizes))
    return Traffic(*(np.broadcast_to(count, shape)[()] for count in counts))


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _golomb_bits(density: Numbers) -> Numbers:
    # Here and not above: the codec brings JAX along, which nothing else in this model needs.
    from sparsetrain.wire import expected_bits

    return np.vectorize(expected_bits, otypes=[np.float64])(density)[()]
