import jax
import numpy as np

from sparsetrain.models import DecoderLM

TOKENS = jax.random.randint(jax.random.key(0), (2, 6), 0, 11)


def test_parameters_are_as_many_as_the_formula_says():
    symbols, width, feed, layers = 11, 8, 20, 3
    model = DecoderLM(symbols, width, feed, heads=2, layers=layers)
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    each = 4 * width * (width + 1) + 2 * width * feed + feed + width + 4 * width
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert total == symbols * width + layers * each + 2 * width


def test_a_place_sees_all_before_it_and_nothing_behind():
    model = DecoderLM(11, width=8, feed=16, heads=2, layers=2)
    logits = jax.jit(model.apply)
    variables = model.init(jax.random.key(1), TOKENS)
    before = np.asarray(logits(variables, TOKENS))
    for place in range(TOKENS.shape[1]):
        other = TOKENS.at[0, place].set((TOKENS[0, place] + 1) % 11)
        moved = np.abs(np.asarray(logits(variables, other)) - before).max(axis=-1)
        assert not moved[0, :place].any()
        assert (moved[0, place:] > 0).all()
        assert not moved[1].any()
