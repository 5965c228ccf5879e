import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks

PARAMS = {
    "a": {"kernel": jnp.arange(32.0).reshape(4, 8), "bias": jnp.zeros(8)},
    "b": {"kernel": jnp.arange(2000.0).reshape(8, 250)},
    "c": {"kernel": jnp.ones((250, 2))},
}
PARTS = masks.partitions({"first": r"a/.*", "second": r"b/.*"}, dense=r"c/kernel")


def state(density=0.25):
    tx = masks.static(optax.sgd(0.1), density, scores=PARAMS, dense=r"c/kernel")
    return optax.chain(optax.clip(1.0), tx).init(PARAMS)


def cells(line):
    return line.split()


def test_every_masked_leaf_has_a_line():
    head, a, b, rest, everything = masks.summary(PARAMS, state()).splitlines()
    assert cells(head) == ["leaf", "shape", "entries", "density", "dense", "now"]
    assert cells(a) == ["a/kernel", "4x8", "32", "0.250", "no"]
    assert cells(b) == ["b/kernel", "8x250", "2,000", "0.250", "no"]
    assert cells(rest) == ["not", "masked", "508", "1.000", "yes"]
    assert cells(everything) == ["all", "2,540", f"{(508 + 508) / 2540:.3f}"]


def test_columns_stay_in_line():
    counted = masks.flops(
        lambda p, x: (x @ p["a"]["kernel"] @ p["b"]["kernel"]) @ p["c"]["kernel"],
        PARAMS,
        jnp.ones((3, 4)),
    )
    for options in ({}, {"partitions": PARTS}, {"partitions": PARTS, "flops": counted}):
        lines = masks.summary(PARAMS, state(1.0), **options).splitlines()
        at = lines[0].index("dense now")
        assert all(line[at:] == "yes" for line in lines[1:-1])
        assert not any(line.endswith(" ") for line in lines)


def test_partitions_and_operations():
    counted = masks.flops(
        lambda p, x: (x @ p["a"]["kernel"] @ p["b"]["kernel"]) @ p["c"]["kernel"],
        PARAMS,
        jnp.ones((3, 4)),
    )
    _, a, b, rest, everything = masks.summary(PARAMS, state(), PARTS, counted).splitlines()
    assert cells(a)[4:] == ["first", "192", "48", "no"]
    assert cells(b)[4:] == ["second", "12,000", "3,000", "no"]
    assert cells(rest)[4:] == ["3,000", "3,000", "yes"]
    assert cells(everything)[3:] == ["15,192", "6,048"]
    assert np.isclose(counted.sparse({"a/kernel": 0.25, "b/kernel": 0.25}), 6048)


def test_a_model_that_is_masked_throughout_has_no_rest():
    params = {"w": jnp.ones((2, 4))}
    tx = masks.static(optax.sgd(0.1), 0.5, scores=params)
    assert "not masked" not in masks.summary(params, tx.init(params))


def test_bad_state():
    with pytest.raises(ValueError, match="0 mask states"):
        masks.summary(PARAMS, optax.sgd(0.1).init(PARAMS))
