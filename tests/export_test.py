import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sparsetrain import backward, compress, masks
from sparsetrain.export import export_params

X = jnp.arange(12.0).reshape(2, 6) / 12
RULES = {r"hidden/kernel": backward.memorized_top_k(density=0.5, decay=0.8)}


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="output")(nn.relu(nn.Dense(4, name="hidden")(x)))


def sparsified(**options):
    model = backward.linen.sparsify(Net(), RULES, **options)
    return model, model.init(jax.random.key(0), X)


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sparsified_linen_model_gives_what_the_plain_one_takes():
    model, variables = sparsified()
    found = export_params(variables)
    same(Net().apply({"params": found}, X), model.apply(variables, X))
    same(export_params(found), found)
    with_stats = {**variables, "batch_stats": {"mean": jnp.ones(3)}}
    same(export_params(with_stats), found)
    both = export_params({"one": variables, "two": with_stats})
    same(both, {"one": found, "two": found})


def test_row_sparse_kernels_stand_the_right_way_round_again():
    rules = {r"hidden/kernel": backward.unified_top_k(density=0.5)}
    model = backward.linen.sparsify(Net(), rules, row_sparse=True)
    variables = model.init(jax.random.key(0), X)
    assert variables["params"]["hidden"]["kernel"].shape == (4, 6)
    found = export_params(variables)
    same(found, model.to_dense(variables["params"]))
    same(Net().apply({"params": found}, X), model.apply(variables, X))


@pytest.mark.parametrize("seen", ["variables", "params"])
def test_masks_are_applied_whatever_the_optimizer_saw(seen):
    _, variables = sparsified()
    tx = masks.static(optax.sgd(0.1), 0.25, key=jax.random.key(0))
    if seen == "variables":
        tx = backward.carry_memory(tx)
    state = tx.init(variables if seen == "variables" else variables["params"])
    found = export_params(variables, state)
    mask = next(m for p, m in masks.find(state).masks.items() if p.endswith("hidden/kernel"))
    np.testing.assert_array_equal(
        found["hidden"]["kernel"], variables["params"]["hidden"]["kernel"] * mask
    )
    same(export_params(variables["params"], state), found)


def test_shadow_weights_are_not_what_the_model_computes_with():
    params = {"w": jnp.array([[1.0, -0.25], [3.0, 0.5]])}
    tx = masks.soft_threshold(optax.sgd(0.1), thresholds=optax.sgd(0.1), initial=0.0)
    state = tx.init(params)
    same(export_params(params, state), masks.forward_params(params, state))
    assert export_params(params, state)["w"].tolist() == [[0.5, 0.0], [2.5, 0.0]]


def test_local_steps_give_what_workers_agreed_upon():
    params = {"w": jnp.zeros((2, 2), jnp.bfloat16)}
    tx = compress.local_steps(optax.sgd(1.0), every=3, compressor=compress.top_k(0.5))
    state = tx.init(params)
    moves, state = tx.update({"w": jnp.ones((2, 2), jnp.bfloat16)}, state, params)
    walked = optax.apply_updates(params, moves)
    assert walked["w"].tolist() == [[-1.0] * 2] * 2
    same(export_params(walked, state), params)
    same(export_params({"params": walked}, (optax.EmptyState(), state)), params)


def test_compact_storage_becomes_whole():
    params = {"w": jnp.array([[0.0, -3.0], [2.0, 0.0]])}
    state = masks.static(optax.sgd(0.1), 0.5, scores=params).init(params)
    same(export_params(masks.compact(params, state)), params)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(6, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.hidden(x))


def test_an_nnx_module_gives_a_dictionary_of_arrays():
    plain = NnxNet(nnx.Rngs(0))
    model = backward.nnx.sparsify(NnxNet(nnx.Rngs(0)), RULES)
    found = export_params(model)
    same(found, nnx.to_pure_dict(nnx.state(plain, nnx.Param)))
    same(export_params(nnx.state(model)), found)
    tx = backward.carry_memory(masks.static(optax.sgd(0.1), 0.25, key=jax.random.key(0)))
    optimizer = nnx.Optimizer(model, tx, wrt=backward.nnx.trained)
    masked = export_params(model, optimizer.opt_state)
    assert int((masked["hidden"]["kernel"] != 0).sum()) == 6
    nnx.update(plain, masked)
    same(plain.hidden.kernel[...], masked["hidden"]["kernel"])


def test_what_does_not_belong_together_is_named():
    tx = masks.static(optax.sgd(0.1), 0.25, key=jax.random.key(0))
    state = tx.init({"w": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match=r"knows 'w', which these parameters do not have \(v"):
        export_params({"v": jnp.ones((2, 2))}, state)
    with pytest.raises(ValueError, match="2 states of masks"):
        export_params({"w": jnp.ones((2, 2))}, (state, state))
