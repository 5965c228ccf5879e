"""The arc-standard system: trees built word by word, many sentences at once.

A stack starts with the root, a buffer with the words. SHIFT moves the next word to the stack; LEFT
makes the top the head of the one below it, RIGHT the one below the head of the top, and the
dependent leaves the stack. A sentence of n words takes 2 n actions, and its root gets one dependent.
With R relations, action 0 is SHIFT, 1 + r is LEFT and 1 + R + r is RIGHT by relation r.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsetrain.data import buckets

SHIFT, LEFT, RIGHT = 0, 1, 2
NONE = -1


@dataclass
class State:
    """Where B sentences are; `step` changes it in place.

    Words are numbers 1..n, the root is 0, and `NONE` no word. Arrays by word have N + 2 columns: the
    last, which `NONE` indexes, stays `NONE`.

    Attributes:
      lengths: int32[B], words n <= N.
      stack: int32[B, N + 2], the bottom first.
      size: int32[B], words on the stack.
      front: int32[B], next word of the buffer, n + 1 when it is empty.
      heads: int32[B, N + 2], by word.
      relations: int32[B, N + 2], of the arc to the head.
      left: int32[B, N + 2, 2], leftmost dependent on the left of a word and the one after it.
      right: int32[B, N + 2, 2], rightmost dependent on the right of a word and the one before it.
    """

    lengths: np.ndarray
    stack: np.ndarray
    size: np.ndarray
    front: np.ndarray
    heads: np.ndarray
    relations: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def finished(self) -> np.ndarray:
        """bool[B]: the buffer is empty and the stack holds the root alone."""
        return (self.front > self.lengths) & (self.size == 1)

    def from_top(self, place: int) -> np.ndarray:
        """int32[B]: word of the stack, 0 for its top; `NONE` where the stack is shorter."""
        rows = np.arange(len(self.size))
        # A negative index would read the other end; column 0 is read there, and not used.
        there = self.stack[rows, np.maximum(self.size - 1 - place, 0)]
        return np.where(self.size > place, there, NONE)

    def from_front(self, place: int) -> np.ndarray:
        """int32[B]: word of the buffer, 0 for its next; `NONE` where the buffer is shorter."""
        word = self.front + place
        return np.where(word <= self.lengths, word, NONE)


def start(lengths: Sequence[int] | np.ndarray) -> State:
    """All words in the buffer.

    Args:
      lengths: int[B], words of each sentence, 0 for one that is finished at once.

    Returns:
      `State` with N the longest.

    Example:
      >>> start([2, 0]).finished
      array([False,  True])
    """
    lengths = np.asarray(lengths, np.int32)
    shape = (len(lengths), int(lengths.max(initial=0)) + 2)
    stack = np.full(shape, NONE, np.int32)
    stack[:, 0] = 0
    ones = np.ones_like(lengths)
    heads, relations = np.full(shape, NONE, np.int32), np.full(shape, NONE, np.int32)
    left, right = (np.full((*shape, 2), NONE, np.int32) for _ in range(2))
    return State(lengths, stack, ones, ones.copy(), heads, relations, left, right)


def legal(state: State) -> np.ndarray:
    """Which kinds of action may come next; there is one until a sentence is finished.

    Args:
      state: of B sentences.

    Returns:
      bool[B, 3], for SHIFT, LEFT and RIGHT. The root is no dependent, and takes its only one when the
      buffer is empty.

    Example:
      >>> legal(start([2])).tolist()
      [[True, False, False]]
    """
    waiting = state.front <= state.lengths
    right = (state.size > 2) | ((state.size == 2) & ~waiting)
    return np.stack([waiting, state.size > 2, right], axis=1)


def step(state: State, actions: np.ndarray, relations: int) -> None:
    """One action of every sentence that is not finished.

    Args:
      state: of B sentences; changes.
      actions: int[B], below 1 + 2 R; those of finished sentences are not read.
      relations: R.

    Raises:
      ValueError: an action is not legal.

    Example:
      >>> state = start([2])
      >>> for action in (0, 0, 1, 2):                # SHIFT, SHIFT, LEFT, RIGHT
      ...     step(state, np.array([action]), relations=1)
      >>> state.heads[0, 1:3], state.finished
      (array([2, 0], dtype=int32), array([ True]))
    """
    rows = np.flatnonzero(~state.finished)
    actions = np.asarray(actions)[rows]
    kinds, names = (actions + relations - 1) // relations, (actions - 1) % relations
    allowed = (actions >= 0) & (kinds < 3)
    allowed &= legal(state)[rows, np.clip(kinds, 0, 2)]
    if not allowed.all():
        first = int(np.flatnonzero(~allowed)[0])
        raise ValueError(
            f"action {actions[first]} of sentence {rows[first]} is not legal with "
            f"relations={relations}: choose among those that `legal` allows"
        )
    moved = rows[kinds == SHIFT]
    state.stack[moved, state.size[moved]] = state.front[moved]
    state.size[moved] += 1
    state.front[moved] += 1
    for kind, dependents in ((LEFT, state.left), (RIGHT, state.right)):
        own = rows[kinds == kind]
        top, below = (state.stack[own, state.size[own] - place] for place in (1, 2))
        head, word = (top, below) if kind == LEFT else (below, top)
        state.heads[own, word] = head
        state.relations[own, word] = names[kinds == kind]
        # Dependents of one side come from the inside outwards: the newest is the outermost.
        dependents[own, head, 1] = dependents[own, head, 0]
        dependents[own, head, 0] = word
        state.size[own] -= 1
        state.stack[own, state.size[own] - 1] = head


def is_projective(heads: Sequence[int]) -> bool:
    """Whether no two arcs cross, the one from the root, left of all words, included.

    Args:
      heads: n heads of the words 1..n, a tree.

    Returns:
      True where arc-standard can build the tree.

    Example:
      >>> is_projective([2, 0, 2]), is_projective([3, 4, 0, 3])
      (True, False)
    """
    words = np.arange(1, len(heads) + 1)
    low, high = np.minimum(words, heads), np.maximum(words, heads)
    crossing = (low[:, None] < low) & (low < high[:, None]) & (high[:, None] < high)
    return not crossing.any()


def oracle(state: State, heads: np.ndarray, names: np.ndarray, relations: int) -> np.ndarray:
    """The action that leads to the right trees: LEFT if it adds an arc, else RIGHT, else SHIFT.

    RIGHT waits until the top has all its dependents, since it leaves the stack. This is the static
    oracle, right for states that its own actions led to.

    Args:
      state: of B sentences.
      heads: int[B, N + 2], right heads by word as in `State`, of projective trees.
      names: int[B, N + 2], their relations, below R.
      relations: R.

    Returns:
      int32[B]; 0 for finished sentences.

    Reference: Nivre, Incrementality in Deterministic Dependency Parsing (2004).

    Example:
      >>> heads = np.array([[-1, 2, 0, -1]])
      >>> oracle(start([2]), heads, np.zeros_like(heads), relations=1)
      array([0], dtype=int32)
    """
    rows = np.arange(len(heads))
    top, below = state.from_top(0), state.from_top(1)
    is_left = (below > 0) & (heads[rows, below] == top)
    # The rest of the top's dependents lies in the buffer: none if no word there has it as its head.
    columns = np.arange(heads.shape[1])
    waiting = (columns >= state.front[:, None]) & (columns <= state.lengths[:, None])
    complete = ~np.any(waiting & (heads == top[:, None]), axis=1)
    is_right = (below >= 0) & (heads[rows, top] == below) & complete
    by_left = 1 + names[rows, below]
    by_right = 1 + relations + names[rows, top]
    return np.where(is_left, by_left, np.where(is_right, by_right, SHIFT)).astype(np.int32)


def by_word(sequences: Sequence[np.ndarray], root: int = NONE, none: int = NONE) -> np.ndarray:
    """What is known of words as a matrix with the columns of `State`.

    Args:
      sequences: int32[n] each.
      root: value of column 0.
      none: value of the columns behind the words, the last of which `NONE` indexes.

    Returns:
      int32[B, N + 2].

    Example:
      >>> by_word([np.array([5, 6]), np.array([7])], root=1, none=0).tolist()
      [[1, 5, 6, 0], [1, 7, 0, 0]]
    """
    inner = buckets.padded(sequences, padding=none)
    matrix = np.pad(inner, ((0, 0), (1, 1)), constant_values=none)
    matrix[:, 0] = root
    return matrix
