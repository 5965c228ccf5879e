import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import beam_search

SYMBOLS, BEGIN, END = 5, 1, 2
# p(next | last but one, last) at each time, one table an example.
TABLES = 2.0 * jax.random.normal(jax.random.key(0), (3, 7, SYMBOLS, SYMBOLS, SYMBOLS))


def search(**options):
    def step(state, last):
        tables, before, time = state
        logits = jax.vmap(lambda table, t, a, b: table[t, a, b])(tables, time, before, last)
        return logits, (tables, last, time + 1)

    @jax.jit
    def run():
        # The state before the first symbol differs from the one behind it, and between examples.
        state = (TABLES, jnp.arange(3), jnp.zeros(3, int))
        return beam_search(step, state, 3, begin=BEGIN, end=END, **options)

    return run()


def oracle(example, beam, length, length_power):
    """Sequences as lists: extend all, sort all, keep the best."""
    logits = np.asarray(TABLES[example], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    beams = [([], 0.0)]
    for time in range(length):
        longer = []
        for tokens, score in beams:
            if tokens and tokens[-1] == END:
                longer.append((tokens, score))
                continue
            before, last = [example, BEGIN, *tokens][-2:]
            longer += [([*tokens, y], score + log_p[time, before, last, y]) for y in range(SYMBOLS)]
        beams = sorted(longer, key=lambda pair: -pair[1])[:beam]
    ranked = [(tokens, score / len(tokens) ** length_power) for tokens, score in beams]
    return sorted(ranked, key=lambda pair: -pair[1])


@pytest.mark.parametrize(
    ("beam", "length", "length_power"), [(1, 6, 0.0), (3, 6, 0.0), (4, 7, 1.0), (5, 1, 0.0)]
)
def test_it_keeps_what_lists_would_keep(beam, length, length_power):
    found = search(beam=beam, length=length, length_power=length_power)
    for example in range(3):
        wanted = oracle(example, beam, length, length_power)
        for place, (tokens, score) in enumerate(wanted):
            n = len(tokens)
            assert found.tokens[example, place].tolist() == tokens + [0] * (length - n)
            assert found.lengths[example, place] == n
            np.testing.assert_allclose(found.scores[example, place], score, rtol=1e-5)


def test_with_room_for_all_it_finds_the_likeliest():
    found = search(beam=200, length=3)
    for example in range(3):
        tokens, score = oracle(example, 1000, 3, 0.0)[0]
        assert found.tokens[example, 0, : len(tokens)].tolist() == tokens
        np.testing.assert_allclose(found.scores[example, 0], score, rtol=1e-5)
        # 1 + 4 + 16 that end and 64 that do not; nothing else is likely at all.
        assert int(jnp.isfinite(found.scores[example]).sum()) == 1 + 4 + 16 + 64


@pytest.mark.parametrize("fields", [{"beam": 0}, {"length": 0}, {"end": 0}])
def test_bad_arguments_are_named(fields):
    settings = {"beam": 2, "length": 3, "begin": 1, "end": 2} | fields
    with pytest.raises(ValueError, match=next(iter(fields))):
        beam_search(lambda state, last: (last, state), (), 1, **settings)
