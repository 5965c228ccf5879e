"""Trees of parameters that other libraries make: HuggingFace's Flax models, Equinox modules, what JAX allows."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress, masks, tree
from sparsetrain.export import export_params
from tests.compress.contract_test import NAMES as COMPRESSORS
from tests.compress.contract_test import make as make_compressor
from tests.masks.registry import METHODS as MASKS
from tests.masks.registry import make as make_masks
from tests.masks.registry import quick_jit

HAS_EQUINOX = importlib.util.find_spec("equinox") is not None


def normal(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@functools.cache
def hugging_face():
    """As the Flax models of transformers 4 hold them: nested dictionaries, layers numbered in words."""
    layer = {
        "attention": {"self": {"query": {"kernel": normal(4, 4), "bias": normal(4)}}},
        "output": {"LayerNorm": {"scale": normal(4), "bias": normal(4)}},
    }
    return {
        "bert": {
            "embeddings": {"word_embeddings": {"embedding": normal(6, 4)}},
            "encoder": {"layer": {"0": layer}},
        },
        "classifier": {"kernel": normal(4, 3), "bias": None},
    }


@functools.cache
def of_tuples():
    """What else a pytree may be: keys that are tuples, lists, gaps."""
    return {("encoder", 0): [normal(4, 2), None], ("encoder", 1): (normal(2, 4),), ("b", 0): None}


@functools.cache
def equinox_params():
    import equinox

    class Net(equinox.Module):
        layers: list
        scale: jax.Array
        name: str = equinox.field(static=True)

        def __init__(self, key):
            self.layers = [
                equinox.nn.Linear(4, 6, key=key),
                jax.nn.relu,
                equinox.nn.Linear(6, 2, use_bias=False, key=key),
            ]
            self.scale, self.name = jnp.ones(()), "net"

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.scale * x

    return Net(jax.random.key(0))


def test_paths_are_readable():
    assert "bert/encoder/layer/0/attention/self/query/kernel" in tree.paths(hugging_face())
    assert tree.paths(of_tuples()) == ["('encoder', 0)/0", "('encoder', 1)/0"]


@functools.cache
def everything():
    """All of them in one tree, so that a method is compiled once for them."""
    found = {"hf": hugging_face(), "tuples": of_tuples()}
    if HAS_EQUINOX:
        import equinox

        found["eqx"] = equinox.filter(equinox_params(), equinox.is_inexact_array)
    return found


def update(tx):
    """Parameters and state after an update, as shapes: what numbers come out is tested elsewhere."""

    def one(params):
        state = tx.init(params)
        moves, state = tx.update(params, state, params, value=jnp.float32(1.0))
        return export_params(optax.apply_updates(params, moves), state), state

    params, state = jax.eval_shape(one, everything())
    assert jax.tree.structure(params) == jax.tree.structure(everything())
    for old, new in zip(jax.tree.leaves(everything()), jax.tree.leaves(params), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    return state


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_exchanges_them(name):
    tx = optax.with_extra_args_support(compress.exchange(make_compressor(name)))
    assert len(compress.find_ledgers(update(optax.chain(tx, optax.sgd(0.1))))) == 1


@pytest.mark.parametrize("name", sorted(name for name in MASKS if not name.startswith("grow")))
def test_every_mask_wrapper_masks_them(name):
    found = masks.find(update(make_masks(name))).masks
    assert "hf/bert/encoder/layer/0/attention/self/query/kernel" in found
    assert ("eqx/layers/0/weight" in found) == HAS_EQUINOX
    assert not any(path.endswith("bias") for path in found)


def test_partitions_and_densities_go_by_these_paths():
    parts = masks.partitions({"hf": r"hf/.*", "rest": r"(eqx|tuples)/.*"})
    tx = masks.grow_and_prune(
        optax.sgd(0.1),
        0.25,
        parts,
        steps_per_phase=2,
        phases=2,
        key=jax.random.key(0),
        distribution={r".*/query/kernel": 0.5},
    )
    live = masks.find(quick_jit(tx.init)(everything())).masks
    assert int(live["hf/bert/encoder/layer/0/attention/self/query/kernel"].sum()) == 8
    assert int(live["hf/classifier/kernel"].sum()) == 3


def test_a_compressor_for_every_layer_goes_by_these_paths():
    rules = {r".*(bias|scale)": compress.dense(), r"hf/.*": compress.top_k(0.25)}
    if HAS_EQUINOX:
        rules[r"eqx/.*"] = compress.sign()
    tx = compress.exchange(compress.by_path({**rules, r".*": compress.top_k(0.5)}))
    u, _ = quick_jit(tx.update)(everything(), tx.init(everything()), everything())
    assert int((u["hf"]["classifier"]["kernel"] != 0).sum()) == 3


@pytest.mark.skipif(not HAS_EQUINOX, reason="equinox is not installed")
def test_an_equinox_model_trains_sparse():
    import equinox

    model = equinox_params()
    params, static = equinox.partition(model, equinox.is_inexact_array)
    assert tree.paths(params) == [
        "layers/0/weight",
        "layers/0/bias",
        "layers/2/weight",
        "scale",
    ]
    tx = optax.chain(
        compress.exchange(compress.top_k(0.5)),
        masks.static(optax.sgd(0.1), 0.25, key=jax.random.key(0), dense=r".*/bias"),
    )
    state = tx.init(params)
    params = masks.apply(params, state)
    x = jnp.ones(4)

    @equinox.filter_jit
    def step(params, state):
        grads = equinox.filter_grad(lambda p: jnp.sum(equinox.combine(p, static)(x) ** 2))(params)
        moves, state = tx.update(grads, state, params)
        return equinox.apply_updates(params, moves), state

    params, state = step(params, state)
    trained = equinox.combine(params, static)
    assert trained.name == "net" and trained(x).shape == (2,)
    assert int((trained.layers[0].weight != 0).sum()) <= 6
    same = export_params(trained, state)
    assert isinstance(same, type(model)) and np.array_equal(same(x), trained(x))


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_a_flax_model_of_transformers_has_such_a_tree():
    import transformers

    if not hasattr(transformers, "FlaxBertModel"):
        pytest.skip("transformers 5 has no Flax models")
    config = transformers.BertConfig(
        vocab_size=8,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
    )
    params = transformers.FlaxBertModel(config).params
    state = masks.static(optax.sgd(0.1), 0.25, key=jax.random.key(0)).init(params)
    assert "encoder/layer/0/attention/self/query/kernel" in state.masks
