import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import backward_layer
from benchmarks.backward_layer import DECAY, LayerCase
from sparsetrain import backward

UNION, MASK = LayerCase(4, 24, 32, 2), LayerCase(4, 24, 32, 4)


def built(case, wanted="nothing"):
    return {candidate.name: candidate for candidate in backward_layer.candidates(case, wanted)}


def test_dense_candidates_compute_both_products():
    data = backward_layer.operands(UNION)
    x, g, kernel = (np.asarray(a, np.float64) for a in (data.x[1], data.g[1], data.kernel))
    dense = {name: c for name, c in built(UNION).items() if name.startswith("dense")}
    assert len(dense) == 4
    for name, candidate in dense.items():
        dkernel, dx = candidate.run(1)
        dkernel = dkernel if "in_out" in name else dkernel.T
        np.testing.assert_allclose(dkernel, x.T @ g, rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(dx, g @ kernel.T, rtol=1e-5, atol=1e-5, err_msg=name)
        assert (candidate.program.alias_bytes > 0) == ("in place" in name)


def test_unified_candidate_selects_multiplies_and_remembers():
    """Two calls against NumPy: the second sees the memory of the first, and other inputs."""
    data = backward_layer.operands(UNION)
    name = "unified + memory, row-sparse out_in"
    run = built(UNION, r"^unified \+ memory, row-sparse out_in")[name].run
    memory = np.zeros(32)
    for number in range(2):
        dx, new_memory, values, columns = run(number)
        new_memory = np.array(new_memory)  # donated to the next call
        x, g = np.asarray(data.x[number], np.float64), np.asarray(data.g[number], np.float64)
        u = g + memory / 4
        kept = np.argsort(-np.abs(u).sum(0))[:2]
        assert columns.tolist() == kept.tolist()
        np.testing.assert_allclose(values, u[:, kept].T @ x, rtol=1e-4, atol=1e-4)
        turned = np.asarray(data.turned, np.float64)
        np.testing.assert_allclose(dx, u[:, kept] @ turned[kept], rtol=1e-4, atol=1e-4)
        memory = DECAY * u.sum(0)
        memory[kept] = 0
        np.testing.assert_allclose(new_memory, memory, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("case", "form"), [(UNION, "union"), (MASK, "mask")])
def test_rules_per_example_are_named_by_the_form_they_take(case, form):
    names = [name for name, *_ in backward_layer._table(case)]
    assert f"memorized {form}, dense dW" in names
    assert ("memorized union, row-sparse out_in" in names) == (form == "union")


def test_every_rule_is_in_the_table():
    rules = {type(rule) for _, rule, _ in backward_layer._table(UNION)}
    made = {
        "memorized_top_k": backward.memorized_top_k(0.1, 0.8),
        "random_k": backward.random_k(0.1, key=0),
        "top_k": backward.top_k(0.1),
        "unified_top_k": backward.unified_top_k(0.1),
        "grouped_top_k": backward.grouped_top_k(0.1),
        "dense": backward.dense(),
    }
    assert set(made) == set(backward.RULES)  # a new rule is measured the day it is registered
    assert rules == {type(rule) for name, rule in made.items() if name != "dense"}


def test_flax_layer_and_bare_product_agree():
    wanted = "unified + memory, dense dW"
    candidates = built(UNION, r"unified \+ memory, dense dW")
    dx, _, dkernel, dbias = candidates[f"nn.Dense, {wanted}"].run(0)
    _, _, bare, _ = candidates[wanted].run(0)
    np.testing.assert_allclose(dkernel, bare, rtol=1e-5, atol=1e-6)
    data = backward_layer.operands(UNION)
    np.testing.assert_allclose(dbias, jnp.sum(data.g[0], axis=0), rtol=1e-5, atol=1e-5)
    assert dx.shape == (4, 24)
