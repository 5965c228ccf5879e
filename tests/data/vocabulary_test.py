import numpy as np
import pytest

from sparsetrain.data import vocabulary
from sparsetrain.data.vocabulary import BEGIN, END, PAD, UNKNOWN, Vocabulary

SENTENCES = [["c", "b", "a", "b"], ["a", "b", "d"]]


def test_frequent_words_first_and_equals_by_code_point():
    assert vocabulary.learn(SENTENCES).symbols == (PAD, UNKNOWN, "b", "a", "c", "d")
    assert vocabulary.learn(SENTENCES, size=4).symbols == (PAD, UNKNOWN, "b", "a")
    assert vocabulary.learn(SENTENCES, least=3, special=()).symbols == ("b",)


def test_there_and_back():
    words = vocabulary.learn(SENTENCES, special=(PAD, UNKNOWN, BEGIN, END))
    numbers = words.encode([BEGIN, "d", "x", END, PAD])
    assert numbers.dtype == np.int32 and numbers.tolist() == [2, 7, 1, 3, 0]
    assert words.decode(numbers) == ("d", UNKNOWN)
    assert words.encode([]).shape == (0,)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="'x' is none of the 4 symbols"):
        vocabulary.learn(SENTENCES, special=()).encode(["a", "x"])
    with pytest.raises(ValueError, match="leave none of 4 words"):
        vocabulary.learn(SENTENCES, size=2)
    with pytest.raises(ValueError, match="'<pad>', which is special"):
        vocabulary.learn([[PAD]])


def test_a_text_may_have_unknown_words_already():
    assert vocabulary.learn([[UNKNOWN, "a"]]).symbols == (PAD, UNKNOWN, "a")
    assert Vocabulary(("a",)).encode(["a"]).tolist() == [0]
