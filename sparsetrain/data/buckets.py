"""Batches of sequences of about the same length, padded: few shapes, so few compilations."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from sparsetrain.data.batches import epoch_permutation


class Bucket(NamedTuple):
    """Which sequences make up a batch, and how long its rows are.

    Attributes:
      rows: int32[B], indices of sequences; -1 for rows that are all padding.
      length: L.
    """

    rows: np.ndarray
    length: int

    def take(self, sequences: Sequence[np.ndarray], padding: int = 0) -> np.ndarray:
        """The batch of some sequences.

        Args:
          sequences: int32[<= L] each.
          padding: what fills up the rows.

        Returns:
          int32[B, L].
        """
        empty = np.empty(0, np.int32)
        chosen = [sequences[row] if row >= 0 else empty for row in self.rows]
        return padded(chosen, self.length, padding)


def padded(
    sequences: Sequence[np.ndarray], length: int | None = None, padding: int = 0
) -> np.ndarray:
    """Sequences as the rows of one matrix, filled up at their ends.

    Args:
      sequences: int32[<= L] each.
      length: L; None for the longest.
      padding: what fills up the rows.

    Returns:
      int32[N, L].

    Raises:
      ValueError: a sequence is longer than L.

    Example:
      >>> padded([np.array([5, 6]), np.array([7])], length=3).tolist()
      [[5, 6, 0], [7, 0, 0]]
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    longest = int(lengths.max(initial=0))
    if length is None:
        length = longest
    if longest > length:
        raise ValueError(
            f"a sequence of {longest} does not fit into rows of length={length}: "
            "cut it, leave it out, or make rows longer"
        )
    matrix = np.full([len(sequences), length], padding, np.int32)
    if longest:
        matrix[np.arange(length) < lengths[:, None]] = np.concatenate(sequences)
    return matrix


def bounds(lengths: Sequence[int] | np.ndarray, count: int) -> tuple[int, ...]:
    """Lengths of rows that leave the least to padding, by dynamic programming.

    Args:
      lengths: of the sequences, at least one.
      count: buckets at most; fewer where there are fewer different lengths.

    Returns:
      The lengths, ascending; the last is that of the longest sequence.

    Example:
      >>> bounds([3, 1, 2, 9, 4, 4], count=3)
      (2, 4, 9)
    """
    each, counts = np.unique(np.asarray(lengths), return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: entries of a bucket with the different lengths i..j.
    cost = np.triu((below[1:] - below[:-1, None]) * each).astype(np.float64)
    cost[np.tril_indices(len(each), -1)] = np.inf
    best, starts = cost[0], []
    for _ in range(min(count, len(each)) - 1):
        # The last bucket starts at i, and one bucket less holds the lengths before.
        ways = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        starts.append(ways.argmin(axis=0))
        best = ways.min(axis=0)
    found, last = [], len(each) - 1
    for start in reversed(starts):
        found.append(int(each[last]))
        last = int(start[last]) - 1
    return tuple(reversed([*found, int(each[last])]))


def batches(
    lengths: Sequence[int] | np.ndarray,
    batch_size: int,
    bounds: Sequence[int],
    key: jax.Array | None = None,
    epoch: int = 0,
    whole: bool = False,
) -> Iterator[Bucket]:
    """All sequences once, in batches of one bucket each; a function of key and epoch.

    Args:
      lengths: of N sequences.
      batch_size: B.
      bounds: lengths of rows, ascending; a sequence goes to the shortest rows that it fits into.
      key: of the data, the same for the whole run; None keeps the order, for evaluation.
      epoch: each one has an order of its own.
      whole: leave out the last batch of a bucket where it is partial. Otherwise it is filled up
        with rows of padding.

    Yields:
      `Bucket`s of B rows each.

    Raises:
      ValueError: a sequence is longer than the last bound.

    Example:
      >>> for bucket in batches([3, 1, 2, 9, 2], batch_size=2, bounds=(3, 9)):
      ...     print(bucket.rows.tolist(), bucket.length)
      [0, 1] 3
      [2, 4] 3
      [3, -1] 9
    """
    each = np.asarray(lengths)
    if len(each) and each.max() > bounds[-1]:
        raise ValueError(
            f"sequence {int(each.argmax())} of length {int(each.max())} is longer than "
            f"bounds[-1]={bounds[-1]}: add a bound, or leave it out"
        )
    order = np.arange(len(each))
    if key is not None:
        order = np.asarray(epoch_permutation(key, epoch, len(each)))
    kinds = np.searchsorted(np.asarray(bounds), each)[order]
    found = []
    for kind, length in enumerate(bounds):
        own = order[kinds == kind]
        end = len(own) // batch_size * batch_size if whole else len(own)
        for start in range(0, end, batch_size):
            rows = np.full([batch_size], -1, np.int32)
            part = own[start : start + batch_size]
            rows[: len(part)] = part
            found.append(Bucket(rows, int(length)))
    turns = np.arange(len(found))
    if key is not None and found:
        turns = np.asarray(epoch_permutation(jax.random.fold_in(key, 1), epoch, len(found)))
    yield from (found[turn] for turn in turns)
