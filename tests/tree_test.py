"""Paths and their regular expressions."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from sparsetrain import tree


def test_paths_in_leaf_order() -> None:
    assert tree.paths({"b": [1, (2, 3)], "a": {"kernel": 4}, "none": None}) == [
        "a/kernel",
        "b/0",
        "b/1/0",
        "b/1/1",
    ]


def test_a_variable_and_the_array_in_it_have_one_name() -> None:
    state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    assert tree.paths(state) == ["bias", "kernel"]
    assert tree.paths(jax.tree.map(jnp.asarray, {"value": 1.0, "a": {"value": 2.0}})) == [
        "a/value",
        "value",
    ]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda adam: adam,
        lambda adam: optax.chain(optax.clip(1.0), adam),
        lambda adam: optax.masked(adam, {"a": {"w": True, "b": False}, "w": True}),
        lambda adam: optax.partition(
            {"x": adam, "y": optax.sgd(0.1)}, {"a": {"w": "x", "b": "y"}, "w": "x"}
        ),
        lambda adam: optax.MultiSteps(adam, 2).gradient_transformation(),
    ],
)
def test_moments_are_found_in_every_wrapper(wrap) -> None:
    params = {"a": {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}, "w": jnp.zeros((4, 1))}
    found = []
    state = wrap(optax.adam(0.1)).init(params)

    def of_leaf(path, leaf):
        found.append(path)
        return leaf + {"a/w": 1, "w": 2, "a/b": 3}[path]

    changed = tree.map_leaves_like(of_leaf, state, params)
    assert jax.tree.structure(changed) == jax.tree.structure(state)
    assert found.count("a/w") >= 2 and found.count("w") == found.count("a/w")
    for leaf in jax.tree.leaves(changed):
        assert leaf.ndim == 0 or set(leaf.ravel().tolist()) == {
            {(2, 3): 1, (4, 1): 2, (3,): 3}[leaf.shape]
        }


def test_first_match_is_full_and_ordered() -> None:
    rules = {r".*/kernel": 1, r".*hidden.*": 2}
    assert tree.first_match(rules, "hidden/kernel") == (r".*/kernel", 1)
    assert tree.first_match(rules, "hidden/bias") == (r".*hidden.*", 2)
    assert tree.first_match(rules, "output/bias") is None
    assert tree.first_match({r"hidden": 1}, "hidden/kernel") is None


def test_bad_expression_is_quoted() -> None:
    with pytest.raises(ValueError, match=r"rules: '\*' is not a regular expression"):
        tree.first_match({"*": 1}, "hidden/kernel")
