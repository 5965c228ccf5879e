"""Paths and their regular expressions."""

import pytest

from sparsetrain import tree


def test_paths_in_leaf_order() -> None:
    assert tree.paths({"b": [1, (2, 3)], "a": {"kernel": 4}, "none": None}) == [
        "a/kernel",
        "b/0",
        "b/1/0",
        "b/1/1",
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
