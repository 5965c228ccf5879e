import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsetrain.data import arc_standard
from sparsetrain.data.arc_standard import NONE


@st.composite
def projective_trees(draw, most=12):
    """Heads of a tree in which every subtree covers neighbouring words."""
    heads = [0] * draw(st.integers(1, most))

    def hang(low, high, head):
        """Parts low..high into subtrees of `head`."""
        while low <= high:
            end = high if head == 0 else draw(st.integers(low, high))
            top = draw(st.integers(low, end))
            heads[top - 1] = head
            hang(low, top - 1, top)
            hang(top + 1, end, top)
            low = end + 1

    hang(1, len(heads), 0)
    return heads


@st.composite
def trees(draw, most=7):
    """Heads of any tree with one root: words are hung up in an order of their own."""
    order = draw(st.permutations(range(1, draw(st.integers(1, most)) + 1)))
    heads = [0] * len(order)
    for place, word in enumerate(order[1:], 1):
        heads[word - 1] = order[draw(st.integers(0, place - 1))]
    return heads


def ancestors(heads, word):
    while word:
        yield word
        word = heads[word - 1]


def matrix(sequences):
    return arc_standard.by_word([np.array(sequence, np.int32) for sequence in sequences])


@given(trees())
def test_projective_is_that_heads_rule_over_what_lies_between(heads):
    expected = all(
        head == 0 or head in ancestors(heads, between)
        for word, head in enumerate(heads, 1)
        for between in range(min(word, head) + 1, max(word, head))
    ) and all(  # And no arc spans the root, which hangs on the 0 at the left.
        not min(word, head) < heads.index(0) + 1 < max(word, head)
        for word, head in enumerate(heads, 1)
    )
    assert arc_standard.is_projective(heads) == expected


@given(st.lists(projective_trees(), min_size=1, max_size=5), st.integers(1, 3), st.data())
def test_the_oracle_rebuilds_projective_trees(forest, relations, draw):
    names = [
        draw.draw(st.lists(st.integers(0, relations - 1), min_size=len(heads), max_size=len(heads)))
        for heads in forest
    ]
    lengths = np.array([len(heads) for heads in forest])
    state = arc_standard.start(lengths)
    steps = 0 * lengths
    while not state.finished.all():
        steps += ~state.finished
        actions = arc_standard.oracle(state, matrix(forest), matrix(names), relations)
        arc_standard.step(state, actions, relations)
    assert all(map(arc_standard.is_projective, forest))
    np.testing.assert_array_equal(steps, 2 * lengths)
    np.testing.assert_array_equal(state.heads[:, 1:], matrix(forest)[:, 1:])
    np.testing.assert_array_equal(state.relations[:, 1:], matrix(names)[:, 1:])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 2**31))
def test_any_legal_way_ends_in_a_projective_tree(lengths, seed):
    chance = np.random.default_rng(seed)
    state = arc_standard.start(lengths)
    for _ in range(2 * max(lengths)):
        legal = arc_standard.legal(state)
        np.testing.assert_array_equal(legal.any(axis=1), ~state.finished)
        arc_standard.step(state, (legal * chance.random(legal.shape)).argmax(axis=1), relations=1)
    assert state.finished.all()
    for heads, length in zip(state.heads, lengths, strict=True):
        found = heads[1 : length + 1].tolist()
        assert found.count(0) == min(length, 1)
        assert arc_standard.is_projective(found)
        # A tree: no word is its own ancestor, or this would not end.
        assert all(len(list(ancestors(found, word))) <= length for word in range(1, length + 1))


def test_dependents_are_counted_from_the_outside():
    # Words 1, 2 and 4, 5 hang on 3, each side from the inside outwards.
    state = arc_standard.start([5])
    for action in (0, 0, 0, 1, 1, 0, 2, 0, 2):
        arc_standard.step(state, np.array([action]), relations=1)
    assert state.left[0, 3].tolist() == [1, 2]
    assert state.right[0, 3].tolist() == [5, 4]
    assert state.from_top(0).tolist() == [3] and state.from_top(2).tolist() == [NONE]
    assert np.all(state.left[0, NONE] == NONE) and np.all(state.heads[0, [0, NONE]] == NONE)


@pytest.mark.parametrize("actions", [[1], [2], [0, 2], [0, 1], [0, 0, 0], [3], [-1]])
def test_what_is_not_legal_is_refused(actions):
    state = arc_standard.start([2])
    with pytest.raises(ValueError, match="sentence 0 is not legal"):
        for action in actions:
            arc_standard.step(state, np.array([action]), relations=1)
