import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import masks
from sparsetrain.models import Transformer, transformer

SOURCE = jnp.array([[4, 5, 6, 2, 0, 0], [7, 8, 9, 10, 4, 2]])
TARGET = jnp.array([[1, 7, 8, 9], [1, 5, 4, 0]])


def small(**fields):
    settings = {"symbols": 11, "width": 8, "feed": 16, "heads": 2, "layers": 1} | fields
    model = Transformer(**settings)
    return model, jax.jit(model.init)(jax.random.key(0), SOURCE, TARGET)


def test_parameters_are_those_of_the_paper():
    # About 37,000 symbols: 65 million (table 3 of the paper), 213 million for the big one.
    sizes = {}
    for name in ("base", "big"):
        model = Transformer.of_size(name, 37_000)
        shapes = jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)["params"]
        sizes[name] = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert Transformer.of_size("base", 37_000) == Transformer(37_000)
    # By hand: an attention has 4 (D^2 + D), a feed-forward part 2 D F + D + F, a norm 2 D.
    published = {"base": (512, 2048, 65e6), "big": (1024, 4096, 213e6)}
    for name, (d, f, parameters) in published.items():
        attention, feed, norm = 4 * (d * d + d), 2 * d * f + d + f, 2 * d
        layers = 6 * (attention + feed + 2 * norm) + 6 * (2 * attention + feed + 3 * norm)
        assert sizes[name] == 37_000 * d + layers
        assert abs(sizes[name] - parameters) < 0.03 * parameters
    with pytest.raises(ValueError, match=r"size='huge'.*big"):
        Transformer.of_size("huge", 37_000)


@pytest.mark.parametrize(("pre_norm", "shares"), [(False, True), (True, False)])
def test_no_place_sees_a_later_one_or_padding(pre_norm, shares):
    model, variables = small(pre_norm=pre_norm, shares=shares)
    apply = jax.jit(model.apply)
    logits = apply(variables, SOURCE, TARGET)
    assert logits.shape == (2, 4, 11) and bool(jnp.isfinite(logits).all())
    changed = apply(variables, SOURCE, TARGET.at[:, 2].set(3))
    np.testing.assert_allclose(changed[:, :2], logits[:, :2], atol=1e-6)
    assert not np.allclose(changed[:, 2:], logits[:, 2:])
    # A longer batch pads more, and changes nothing.
    padded = apply(variables, jnp.pad(SOURCE, ((0, 0), (0, 3))), TARGET)
    np.testing.assert_allclose(padded, logits, atol=1e-5)


def test_attention_against_numpy():
    model = transformer.Attention(heads=2, dropout=0.0)
    x, y = (jax.random.normal(jax.random.key(i), (1, n, 4)) for i, n in enumerate((2, 3)))
    mask = jnp.array([True, True, False])[None, None, None]
    variables = model.init(jax.random.key(2), x, y, mask, False)
    found = model.apply(variables, x, y, mask, False)
    w = jax.tree.map(np.asarray, variables["params"])
    q, k, v = (np.asarray(a)[0] @ w[n]["kernel"] for n, a in (("q", x), ("k", y), ("v", y)))
    heads = []
    for columns in (slice(0, 2), slice(2, 4)):
        scores = np.exp(q[:, columns] @ k[:2, columns].T / np.sqrt(2))
        heads.append(scores / scores.sum(1, keepdims=True) @ v[:2, columns])
    wanted = np.concatenate(heads, 1) @ w["out"]["kernel"]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only():
    model, variables = small(dropout=0.5)

    @jax.jit
    def encode(key):
        return model.apply(variables, SOURCE, train=True, rngs={"dropout": key}, method="encode")

    one, two = (encode(jax.random.key(i)) for i in (0, 1))
    assert not np.allclose(one, two)


def test_partitions_by_expression_cover_all_but_the_embeddings():
    model = Transformer(11, 8, 16, 2, layers=2, shares=False)
    variables = jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)
    parts = masks.partitions(
        {"encoder": r"encoder_\d+/.*", "a": r"decoder_0/.*", "b": r"decoder_1/.*"},
        dense=r".*embedding/embedding|output/kernel",
    )
    owners = parts.assign(variables["params"])
    assert len(owners) == 2 * 6 + 2 * 10
    assert owners["decoder_1/cross/q/kernel"] == "b" and owners["encoder_0/fc1/kernel"] == "encoder"
