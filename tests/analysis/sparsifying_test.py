import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward, selection
from sparsetrain.analysis import check_sparsifying, cosine

KEY = jax.random.key(0)


def by_rule(rule):
    """A rule as a selection; a random one draws from the step in its memory, which stays 0 here."""
    return jax.jit(lambda u: rule.select(u, rule.init((u.shape[1],))).to_dense(u.shape[1]))


def check_witness(verdict, kept):
    """The figures of a verdict, from its witness alone, by squared masses in NumPy."""
    v, s = verdict.witness.astype(np.float64), verdict.selected.astype(np.float64)
    assert verdict.bound == pytest.approx(math.sqrt(kept / v.size))
    assert np.count_nonzero(s) <= kept
    np.testing.assert_array_equal(s[s != 0], v[s != 0])  # a selection, so cos = |S(v)| / |v|
    assert verdict.cosine == pytest.approx(math.sqrt((s**2).sum() / (v**2).sum()), rel=1e-6)
    assert verdict.margin == pytest.approx(verdict.cosine - verdict.bound)


@pytest.mark.parametrize(("entries", "k"), [(2, 1), (7, 3), (50, 1), (50, 2), (50, 50)])
def test_exact_top_k_is_sparsifying_and_the_bound_is_tight(entries, k):
    verdict = check_sparsifying(
        jax.jit(lambda v: jnp.where(selection.top_k_mask(v, k), v, 0)), (entries,), k, key=KEY
    )
    check_witness(verdict, k)
    assert verdict.holds
    assert verdict.margin == pytest.approx(0.0, abs=1e-6)  # equal entries meet it exactly
    assert verdict.tried > 40


@pytest.mark.parametrize("shape", [(1, 8), (4, 2), (5, 20)])
def test_rules_that_are_sparsifying(shape):
    rows, outputs = shape
    for rule in (backward.top_k(density=0.25), backward.unified_top_k(density=0.25, score="l2")):
        kept = rows * max(1, round(0.25 * outputs))
        verdict = check_sparsifying(by_rule(rule), shape, kept, key=KEY, trials=12)
        check_witness(verdict, kept)
        assert verdict.holds, rule


def test_unified_l1_keeps_too_little_of_the_known_example():
    # Columns (1, 1, 1, 1) and (3.9, 0, 0, 0), one of two kept: .208 of the mass, not .5.
    matrix = np.array([[1, 3.9], [1, 0], [1, 0], [1, 0]], np.float32)
    rule = backward.unified_top_k(density=0.5, score="l1")
    selected = np.asarray(by_rule(rule)(jnp.asarray(matrix)))
    assert cosine(selected, matrix) ** 2 == pytest.approx(4 / 19.21)
    assert round(cosine(selected, matrix) ** 2, 3) == 0.208
    assert cosine(by_rule(backward.unified_top_k(density=0.5, score="l2"))(matrix), matrix) > 0.88
    given = check_sparsifying(by_rule(rule), (4, 2), 4, key=KEY, trials=0, vectors=[matrix])
    assert not given.holds
    assert given.margin <= math.sqrt(4 / 19.21) - math.sqrt(0.5)


@pytest.mark.parametrize("shape", [(5, 2), (30, 20)])
def test_the_search_finds_that_unified_l1_is_not_sparsifying(shape):
    rows, outputs = shape
    rule = backward.unified_top_k(density=0.5, score="l1")
    verdict = check_sparsifying(by_rule(rule), shape, rows * outputs // 2, key=KEY, trials=4)
    check_witness(verdict, rows * outputs // 2)
    assert not verdict.holds
    # Known worst case of its kind: 1 of kept mass against .975^2 R in as many dropped columns.
    assert verdict.cosine**2 == pytest.approx(1 / (1 + 0.975**2 * rows), rel=1e-3)


def test_the_search_finds_that_random_k_is_not_sparsifying():
    rule = backward.random_k(density=0.25, key=3)
    verdict = check_sparsifying(by_rule(rule), (3, 16), 12, key=KEY, trials=4)
    check_witness(verdict, 12)
    assert not verdict.holds
    assert verdict.cosine == 0.0  # all its mass outside the draw
    assert not np.any(verdict.selected)


def test_the_adversary_starves_a_selection_that_does_not_look():
    # Every single spike of the fixed list is kept, and equal entries just meet the bound.
    keep = np.zeros(9, bool)
    keep[[0, 4, 8]] = True
    verdict = check_sparsifying(
        jax.jit(lambda v: jnp.where(keep, v, 0)), (9,), 3, key=KEY, trials=0
    )
    check_witness(verdict, 3)
    assert verdict.cosine < 0.02


def test_a_threshold_that_drops_ties_is_found():
    @jax.jit
    def strict(v):
        limit = jnp.sort(jnp.abs(v))[-3]
        return jnp.where(jnp.abs(v) > limit, v, 0)

    verdict = check_sparsifying(strict, (9,), 2, key=KEY, trials=0)
    assert not verdict.holds
    assert verdict.cosine == 0.0


def test_cosine_counts_rescaling_and_the_empty_selection():
    vector = np.array([3.0, 4.0, 12.0])
    selected = np.array([0.0, 0.0, 12.0])
    assert cosine(selected, vector) == pytest.approx(12 / 13)
    assert cosine(5 * selected, vector) == pytest.approx(12 / 13)
    assert cosine(-selected, vector) == pytest.approx(-12 / 13)
    assert cosine(0 * selected, vector) == 0.0


def test_arguments_that_cannot_be_meant_are_refused():
    with pytest.raises(ValueError, match=r"kept=0: must lie in 1\.\.4"):
        check_sparsifying(lambda v: v, (2, 2), 0, key=KEY)
    with pytest.raises(ValueError, match=r"kept=5: must lie in 1\.\.4"):
        check_sparsifying(lambda v: v, (2, 2), 5, key=KEY)
    with pytest.raises(ValueError, match="zeros where nothing is kept"):
        check_sparsifying(lambda v: v[:2], (4,), 2, key=KEY)
    with pytest.raises(ValueError, match="must agree"):
        check_sparsifying(lambda v: v, (4,), 2, key=KEY, vectors=[np.ones(3)])
