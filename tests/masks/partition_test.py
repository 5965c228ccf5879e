import jax.numpy as jnp
import pytest

from sparsetrain import masks

WEIGHT = jnp.zeros((2, 2))
PARAMS = {name: {"kernel": WEIGHT, "bias": WEIGHT[0]} for name in "abcd"}


def test_every_weight_has_one_owner_and_dense_ones_none():
    parts = masks.partitions({"x": r"[ab]/.*", "y": r"c/.*"}, dense=r"d/kernel")
    assert parts.names == ("x", "y")
    assert parts.assign(PARAMS) == {"a/kernel": "x", "b/kernel": "x", "c/kernel": "y"}
    assert parts.owners("a/bias") == ["x"] and parts.owners("d/kernel") == []


def test_overlaps_and_gaps_are_all_listed():
    wrong = masks.partitions({"x": r"[ab]/.*", "y": r"[ab]/kernel"})
    with pytest.raises(ValueError, match="exactly one") as caught:
        wrong.assign(PARAMS)
    for part in ("a/kernel in x, y; b/kernel in x, y", "In none: c/kernel, d/kernel", "dense="):
        assert part in str(caught.value)


def test_expressions_match_whole_paths():
    with pytest.raises(ValueError, match="In none: a/kernel"):
        masks.partitions({"x": r"kernel"}).assign(PARAMS)


def test_a_partition_without_a_weight_and_rules_that_cannot_be():
    with pytest.raises(ValueError, match=r"empty, none hold no weight; there are a/kernel, b"):
        masks.partitions({"all": r".*/kernel", "empty": r"x", "none": r"./bias"}).assign(
            {"a": PARAMS["a"], "b": PARAMS["b"]}
        )
    with pytest.raises(ValueError, match="at least one partition"):
        masks.partitions({})
    with pytest.raises(ValueError, match=r"partition 'dense'.*not a regular expression"):
        masks.partitions({"all": r".*"}, dense="[")
    with pytest.raises(ValueError, match="dense='nothing' matches none of a/bias"):
        masks.partitions({"all": r".*"}, dense="nothing").assign(PARAMS)


def test_what_can_be_masked():
    params = {
        "bias": jnp.zeros(3),
        "steps": jnp.zeros((3, 3), jnp.int32),
        "empty": jnp.zeros((0, 3)),
        "kernel": jnp.zeros((3, 3), jnp.bfloat16),
        "conv": jnp.zeros((1, 1, 1, 1)),
        "nothing": None,
    }
    assert masks.prunable(params) == ["conv", "kernel"]
    assert masks.prunable(params, "conv") == ["kernel"]
    for hopeless in ({"bias": jnp.zeros(3)}, {}):
        with pytest.raises(ValueError, match="no leaf can be masked"):
            masks.prunable(hopeless)
