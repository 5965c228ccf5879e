"""Each leaf is treated as its own compressor alone would treat it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, wire

RULES = {
    r".*/bias": compress.dense(),
    r"last/.*": compress.global_top_k(0.5),
    r".*": compress.top_k(0.1),
}


def params():
    shapes = {"bias": (5,), "kernel": (6, 5)}
    one = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    return {"first": one, "last": {**one, "scale": jnp.zeros(5)}}


def gradients(seed, workers=()):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal((*workers, *leaf.shape)), jnp.float32),
        params(),
    )


def groups(values):
    """What each rule is the first match of."""
    return [
        {"first": values["first"]["bias"], "last": values["last"]["bias"]},
        {"kernel": values["last"]["kernel"], "scale": values["last"]["scale"]},
        {"kernel": values["first"]["kernel"]},
    ]


def test_every_group_is_as_if_alone():
    workers, axis_name = 2, "workers"

    def run(compressor, shapes, values):
        tx = compress.exchange(compressor, axis_name=axis_name)

        def rounds(values):
            state = tx.init(shapes)
            first, state = tx.update(values, state)
            second, state = tx.update(values, state)
            return first, second

        return jax.jit(jax.vmap(rounds, axis_name=axis_name))(values)

    values = gradients(0, (workers,))
    whole = run(compress.by_path(RULES), params(), values)
    alone = [
        run(compressor, shapes, group)
        for compressor, shapes, group in zip(
            RULES.values(), groups(params()), groups(values), strict=True
        )
    ]
    for turn in (0, 1):
        wanted = [each[turn] for each in alone]
        for a, b in zip(jax.tree.leaves(groups(whole[turn])), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(a, b)


def test_messages_and_workers_that_fall_silent():
    compressor = compress.by_path(RULES)
    u = gradients(1)
    payloads, _ = compressor.compress(u, compressor.init(u))
    back = wire.decode(wire.encode(payloads), like=jax.eval_shape(lambda: payloads))
    for a, b in zip(compressor.decompress(back), compressor.decompress(payloads), strict=True):
        np.testing.assert_array_equal(a, b)
    tx = compress.exchange(compressor, axis_name="workers")
    values = gradients(2, (2,))
    values["last"]["kernel"] = values["last"]["kernel"].at[0, 0, 0].set(jnp.nan)
    step = jax.vmap(lambda g: tx.update(g, tx.init(params()))[0], axis_name="workers")
    of_one = compress.exchange(compressor)
    alone, _ = of_one.update(jax.tree.map(lambda g: g[1], values), of_one.init(params()))
    for a, b in zip(jax.tree.leaves(step(values)), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-6)
        np.testing.assert_array_equal(a[0], a[1])


@pytest.mark.parametrize(
    ("rules", "error", "text"),
    [
        ({}, ValueError, "give at least one"),
        ({r".*": 0.01}, TypeError, r"rules\['\.\*'\]=0\.01: give one of"),
        ({r"(": compress.dense()}, ValueError, "is not a regular expression"),
        (
            {r"a": compress.dense(), r".*": compress.global_top_k(0.1, shards="x")},
            ValueError,
            "give all compressors the same",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(rules, error, text):
    with pytest.raises(error, match=text):
        compress.by_path(rules)


def test_every_leaf_needs_a_rule_and_every_rule_a_leaf():
    with pytest.raises(ValueError, match="none matches the leaf 'first/kernel'; end with one"):
        compress.by_path({r".*/bias": compress.dense()}).init(params())
    idle = compress.by_path({r"fist/.*": compress.dense(), r".*": compress.top_k(0.1)})
    with pytest.raises(ValueError, match=r"\['fist/\.\*'\] matched no leaf.*The leaves are: first"):
        idle.init(params())
