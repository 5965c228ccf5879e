"""Words as numbers: which words have one, and what stands for the others."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<s>", "</s>"


@dataclass(frozen=True)
class Vocabulary:
    """Numbers of words, and of the symbols that stand for none.

    Attributes:
      symbols: a number is a place in this tuple.

    Example:
      >>> words = Vocabulary((PAD, UNKNOWN, "a", "b"))
      >>> words.encode("b c a".split())
      array([3, 1, 2], dtype=int32)
      >>> words.decode([3, 1, 2, 0])
      ('b', '<unk>', 'a')
    """

    symbols: tuple[str, ...]

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Symbol -> its number."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, words: Iterable[str]) -> np.ndarray:
        """Numbers of words.

        Args:
          words: one after the other.

        Returns:
          int32[N]; words without a number have that of `UNKNOWN`.

        Raises:
          ValueError: a word has no number, and this vocabulary has no `UNKNOWN`.
        """
        words = tuple(words)
        unknown = self.numbers.get(UNKNOWN)
        found = [self.numbers.get(word, unknown) for word in words]
        if unknown is None and None in found:
            raise ValueError(
                f"{words[found.index(None)]!r} is none of the {len(self)} symbols, and there is no "
                f"{UNKNOWN!r}: learn the vocabulary on these data, or with {UNKNOWN!r} in special"
            )
        return np.array(found, np.int32)

    def decode(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """Words of numbers.

        Args:
          numbers: at least 0, below the number of symbols.

        Returns:
          The symbols up to the first `END`; `PAD` and `BEGIN` are left out.
        """
        words = []
        for number in numbers:
            if (symbol := self.symbols[int(number)]) == END:
                break
            if symbol not in (PAD, BEGIN):
                words.append(symbol)
        return tuple(words)


def learn(
    sentences: Iterable[Iterable[str]],
    least: int = 1,
    size: int | None = None,
    special: Sequence[str] = (PAD, UNKNOWN),
) -> Vocabulary:
    """The frequent words of sentences, most frequent first, equals by their code points.

    Args:
      sentences: words of each; give training sentences only.
      least: rarer words get no number.
      size: symbols at most, special ones included; None for no limit.
      special: symbols that come first. With `PAD` it has the number 0.

    Returns:
      `Vocabulary`.

    Raises:
      ValueError: `least` or `size` leaves no room for a word, or a word is spelt like a special
        symbol.

    Example:
      >>> learn(["b a b".split(), "c b a".split()], least=2).symbols
      ('<pad>', '<unk>', 'b', 'a')
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    if UNKNOWN in special:  # A text whose rare words were cut already writes it for them.
        counts.pop(UNKNOWN, None)
    clash = [symbol for symbol in special if symbol in counts]
    if clash:
        raise ValueError(
            f"the sentences hold {clash[0]!r}, which is special: choose another symbol"
        )
    words = sorted(
        (word for word, count in counts.items() if count >= least),
        key=lambda word: (-counts[word], word),
    )
    kept = words if size is None else words[: max(0, size - len(special))]
    if not kept:
        raise ValueError(
            f"least={least} and size={size} leave none of {len(counts)} words: "
            "take a smaller least or a larger size"
        )
    return Vocabulary((*special, *kept))
