"""What a transition parser sees of a state: 18 words, their tags, and 12 relations."""

import numpy as np

from sparsetrain.data.arc_standard import State

WORDS, RELATIONS = 18, 12
FEATURES = 2 * WORDS + RELATIONS


def positions(state: State) -> np.ndarray:
    """Words that the features are about.

    Args:
      state: of B sentences.

    Returns:
      int32[B, 18], numbers of words, 0 the root, -1 none:
      0..2 the top three of the stack, 3..5 the next three of the buffer; then of the stack's top,
      and after that of the one below it, 6 words each: leftmost and rightmost dependent, the second
      of both, the leftmost's leftmost and the rightmost's rightmost.

    Example:
      >>> from sparsetrain.data import arc_standard
      >>> positions(arc_standard.start([2]))[0, :6].tolist()
      [0, -1, -1, 1, 2, -1]
    """
    rows = np.arange(len(state.lengths))
    top = [state.from_top(place) for place in range(3)]
    found = [*top, *(state.from_front(place) for place in range(3))]
    for word in top[:2]:
        first, last = state.left[rows, word], state.right[rows, word]
        found += [first[:, 0], last[:, 0], first[:, 1], last[:, 1]]
        found += [state.left[rows, first[:, 0], 0], state.right[rows, last[:, 0], 0]]
    return np.stack(found, axis=1)


def features(state: State, words: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """The 48 features of Chen and Manning.

    Args:
      state: of B sentences.
      words: int32[B, N + 2], numbers of words as from `arc_standard.by_word`.
      tags: int32[B, N + 2], numbers of their tags.

    Returns:
      int32[B, 48]: 18 words and 18 tags, in the order of `positions`, and of the last 12 of them 1 +
      the relation to their head, 0 where there is no such word. The three kinds are numbered each on
      its own.

    Reference: Chen and Manning, A Fast and Accurate Dependency Parser using Neural Networks (EMNLP
      2014), section 3.1.

    Example:
      >>> from sparsetrain.data import arc_standard
      >>> words = arc_standard.by_word([np.array([5, 6])], root=2, none=0)
      >>> features(arc_standard.start([2]), words, words)[0, :6].tolist()
      [2, 0, 0, 5, 6, 0]
    """
    rows, places = np.arange(len(words))[:, None], positions(state)
    relations = state.relations[rows, places[:, WORDS - RELATIONS :]] + 1
    return np.concatenate([words[rows, places], tags[rows, places], relations], axis=1)
