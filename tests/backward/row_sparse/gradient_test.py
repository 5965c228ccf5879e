"""RowSparse: addition in place, padding, guards, and the whole path through a linen model."""

import jax
import jax.numpy as jnp
import linen_models
import numpy as np
import optax
import pytest

from sparsetrain import backward
from sparsetrain.backward import row_sparse
from sparsetrain.backward.row_sparse import RowSparse

HIDDEN = linen_models.HIDDEN
RULES = {
    "unified": backward.unified_top_k(0.1),
    "unified memory": backward.unified_top_k(0.1, 0.5),
    "unified block": backward.unified_top_k(0.25, 0.5, block=4),
    "random": backward.random_k(0.1, key=0),
    "union": backward.memorized_top_k(2 / 64, 0.5),  # with few rows
}


@pytest.mark.parametrize("kind", [jnp.asarray, np.asarray])
def test_addition_changes_the_named_rows_and_drops_padding(kind) -> None:
    dense = kind(np.ones((4, 2), np.float32))
    change = RowSparse(jnp.full((2, 2), 2.0), jnp.array([3, 9]), None, 0)
    np.testing.assert_array_equal(dense + change, [[1, 1], [1, 1], [1, 1], [3, 3]])
    change = RowSparse(jnp.full((2, 2), 2.0), jnp.array([0, 9]), None, 1)
    np.testing.assert_array_equal(kind(np.ones((2, 3), np.float32)) + change, [[3, 1, 1]] * 2)


def test_float_columns_are_refused() -> None:
    scaled = jax.tree.map(lambda a: -0.1 * a, RowSparse(jnp.ones((1, 2)), jnp.array([3])))
    with pytest.raises(TypeError, match="also scaled its column numbers"):
        jnp.ones((4, 2)) + scaled


def model_and_loss(rule, rows: int, **options):
    x = linen_models.ROWS[:rows]
    sparse = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: rule}, row_sparse=True, **options)

    def loss(variables):
        logits = sparse.apply(variables, x)
        targets = linen_models.labels(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return sparse, sparse.init(jax.random.key(1), x), loss, x


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("name", RULES)
def test_same_training_as_with_dense_gradients(name: str, layout: str) -> None:
    """SGD moves only touched rows anyway, so the two paths must give the same parameters."""
    rule, rows = RULES[name], 4 if name == "union" else 32
    sparse, variables, loss, x = model_and_loss(rule, rows, kernel_layout=layout)
    plain = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: rule})
    dense_variables = plain.init(jax.random.key(1), x)

    def dense_loss(variables):
        logits = plain.apply(variables, x)
        targets = linen_models.labels(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def train(loss, variables, tx):
        tx = backward.carry_memory(tx)
        state = tx.init(variables)

        @jax.jit
        def step(variables, state):
            updates, state = tx.update(jax.grad(loss)(variables), state, variables)
            return optax.apply_updates(variables, updates), state

        for _ in range(5):
            variables, state = step(variables, state)
        assert step._cache_size() == 1
        return variables

    clip = 0.05
    fast = train(
        loss,
        variables,
        optax.chain(row_sparse.clip_by_global_norm(clip), row_sparse.sgd(0.5)),
    )
    slow = train(
        dense_loss, dense_variables, optax.chain(optax.clip_by_global_norm(clip), optax.sgd(0.5))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        sparse.to_dense(fast["params"]),
        slow["params"],
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        fast["memory"],
        slow["memory"],
    )
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), fast["row_sparse"])


def test_storage_layouts_and_conversion() -> None:
    sparse, variables, _, x = model_and_loss(RULES["unified"], 32)
    plain = linen_models.Mlp().init(jax.random.key(1), x)["params"]
    assert variables["params"]["hidden"]["kernel"].shape == (64, 20)
    dense = sparse.to_dense(variables["params"])
    jax.tree.map(np.testing.assert_array_equal, dense, plain)
    jax.tree.map(np.testing.assert_array_equal, sparse.from_dense(dense), variables["params"])
    np.testing.assert_array_equal(
        sparse.apply({"params": variables["params"]}, x),
        linen_models.Mlp().apply({"params": dense}, x),
    )


def test_eager_gradient_of_the_kernel_is_zero_and_the_tap_holds_it() -> None:
    _, variables, loss, _ = model_and_loss(RULES["unified"], 32)
    grads = jax.grad(loss)(variables)
    np.testing.assert_array_equal(grads["params"]["hidden"]["kernel"], 0)
    tap = grads["row_sparse"]["hidden"]["kernel"]
    assert tap.values.shape == (6, 20) and float(tap.calls) == 1.0
    assert tap.settled().columns.dtype == jnp.int32


def test_summed_gradients_read_as_nan() -> None:
    _, variables, loss, _ = model_and_loss(RULES["unified"], 32)
    grads = jax.tree.map(lambda leaf: leaf + leaf, jax.grad(loss)(variables))
    assert np.all(np.isnan(grads["row_sparse"]["hidden"]["kernel"].settled().values))


def test_plain_optimizers_are_refused_at_init() -> None:
    _, variables, _, _ = model_and_loss(RULES["unified"], 32)
    for tx in (optax.adam(0.1), optax.sgd(0.1), optax.adamw(0.1), optax.clip_by_global_norm(1.0)):
        with pytest.raises(ValueError, match="row-sparse gradients, which this optimizer does not"):
            backward.carry_memory(optax.chain(tx, optax.scale(-1.0))).init(variables)


def test_rules_and_layers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="keeps a mask or everything"):
        model_and_loss(backward.memorized_top_k(0.2, 0.5), 32)
    with pytest.raises(ValueError, match="row_sparse needs layers that are called once"):
        model = backward.linen.sparsify(
            linen_models.Shared(), {HIDDEN: RULES["unified"]}, rows=64, row_sparse=True
        )
        model.init(jax.random.key(0), linen_models.ROWS)
    sparse, variables, _, _ = model_and_loss(RULES["union"], 4)
    with pytest.raises(ValueError, match="room for 8 columns at init"):
        jax.grad(lambda v: sparse.apply(v, linen_models.ROWS[:7]).sum())(variables)
    jax.grad(lambda v: sparse.apply(v, linen_models.ROWS[:3]).sum())(variables)  # fewer rows fit


def test_stacked_kernels_and_convolutions_keep_dense_gradients() -> None:
    for name in ("scan", "convolution", "attention"):
        model, inputs, pattern, _ = linen_models.MODELS[name]
        rule = backward.unified_top_k(0.25)
        sparse = backward.linen.sparsify(model, {pattern: rule}, row_sparse=True)
        variables = sparse.init(jax.random.key(0), inputs)
        tapped = set(variables.get("row_sparse", {}).get("hidden", {}))
        assert not tapped
        tx = backward.carry_memory(row_sparse.adam(1e-2))
        updates, _ = tx.update(
            jax.grad(lambda v, m=sparse, i=inputs: m.apply(v, i).sum())(variables),
            tx.init(variables),
            variables,
        )
        optax.apply_updates(variables, updates)
