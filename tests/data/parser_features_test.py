import numpy as np

from sparsetrain.data import arc_standard, parser_features


def test_a_state_by_hand():
    # Of 7 words: 1 hangs on 2, 2 and 4 on 3, 5 on 4; the stack holds 0, 3 and the buffer 6, 7.
    state = arc_standard.start([7])
    shift, left, right = 0, 1, 3
    for action in (shift, shift, left, shift, left + 1, shift, shift, right, right + 1, shift):
        arc_standard.step(state, np.array([action]), relations=2)
    assert state.stack[0, :3].tolist() == [0, 3, 6]
    expected = [6, 3, 0, 7, -1, -1]
    expected += [-1] * 6
    expected += [2, 4, -1, -1, 1, 5]
    assert parser_features.positions(state)[0].tolist() == expected
    words = arc_standard.by_word([np.arange(11, 18)], root=9, none=0)
    tags = arc_standard.by_word([np.arange(21, 28)], root=8, none=0)
    found = parser_features.features(state, words, tags)
    assert found.shape == (1, parser_features.FEATURES) and found.dtype == np.int32
    assert found[0, :18].tolist() == [9 if p == 0 else p + 10 if p > 0 else 0 for p in expected]
    assert found[0, 18:36].tolist() == [8 if p == 0 else p + 20 if p > 0 else 0 for p in expected]
    # Relations 0 and 1 come as 1 and 2.
    assert found[0, 36:].tolist() == [*[0] * 6, 2, 2, 0, 0, 1, 1]


def test_a_sentence_has_the_features_that_it_has_alone():
    def after(lengths):
        state = arc_standard.start(lengths)
        for action in (0, 0, 1):
            arc_standard.step(state, np.full(len(lengths), action), relations=1)
        words = arc_standard.by_word([np.arange(1, n + 1) for n in lengths], none=0)
        return parser_features.features(state, words, words)[0]

    np.testing.assert_array_equal(after([3]), after([3, 9]))
