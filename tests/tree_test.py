"""Paths and their regular expressions."""

import jax
import jax.numpy as jnp
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


def test_first_match_is_full_and_ordered() -> None:
    rules = {r".*/kernel": 1, r".*hidden.*": 2}
    assert tree.first_match(rules, "hidden/kernel") == (r".*/kernel", 1)
    assert tree.first_match(rules, "hidden/bias") == (r".*hidden.*", 2)
    assert tree.first_match(rules, "output/bias") is None
    assert tree.first_match({r"hidden": 1}, "hidden/kernel") is None


def test_bad_expression_is_quoted() -> None:
    with pytest.raises(ValueError, match=r"rules: '\*' is not a regular expression"):
        tree.first_match({"*": 1}, "hidden/kernel")
