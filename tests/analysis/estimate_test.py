import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from sparsetrain import backward, models
from sparsetrain.analysis import Layer, backward_flops, estimate, residual_bytes

KEY = jax.random.key(0)
ROWS, INPUTS, HIDDEN, CLASSES = 16, 24, 40, 10
WEIGHTS = INPUTS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES


def dry_run(rule, tx, row_sparse=False, rows=ROWS, **options):
    model = backward.linen.sparsify(
        models.MLP(hidden=(HIDDEN,)), {r"hidden.*": rule}, row_sparse=row_sparse
    )
    x = jax.ShapeDtypeStruct((rows, INPUTS), jnp.float32)
    labels = jax.ShapeDtypeStruct((rows,), jnp.int32)
    variables = jax.eval_shape(model.init, KEY, x)

    def loss(variables, x, labels):
        scores = model.apply(variables, x)
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    layers = model.layers(KEY, x)
    return estimate(loss, variables, x, labels, tx=tx, layers=layers, **options), loss, variables


def test_bytes_by_hand():
    rule = backward.memorized_top_k(density=0.1, decay=0.8)
    found, _, _ = dry_run(rule, backward.carry_memory(optax.adam(1e-3)))
    assert found.params == 4 * WEIGHTS
    assert found.gradients == 4 * WEIGHTS
    assert found.memory == 4 * HIDDEN
    assert found.taps == found.other == 0
    assert found.batch == 4 * ROWS * INPUTS + 4 * ROWS
    # Adam: two moments of the parameters and a counter; nothing for the memory.
    assert found.optimizer == 2 * 4 * WEIGHTS + 4
    parts = (found.params, found.optimizer, found.gradients, found.residuals)
    assert found.total == sum(parts) + found.memory + found.batch


def test_slot_memory_and_other_collections():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(8, param_dtype=jnp.bfloat16, dtype=jnp.float32, name="hidden")(x)
            return nn.BatchNorm(use_running_average=False)(x)

    rule = backward.memorized_top_k(density=0.5, decay=0.8, memory="slot")
    model = backward.linen.sparsify(Net(), {r"hidden.*": rule})
    x = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    variables = jax.eval_shape(model.init, KEY, x)

    def loss(variables, x):
        return model.apply(variables, x, mutable=["batch_stats"])[0].sum()

    found = estimate(loss, variables, x)
    assert found.params == 2 * (3 * 8 + 8) + 4 * 16
    assert found.memory == 4 * 4 * 8
    assert found.other == 4 * 16  # running mean and variance
    assert found.optimizer == 0
    assert found.layers == () and found.backward.total == 0


def test_row_sparse_gradients_count_by_their_taps():
    rule = backward.unified_top_k(density=0.1)
    found, _, _ = dry_run(rule, backward.carry_memory(backward.row_sparse.sgd(0.1)), True)
    assert found.taps == 4 * (4 * INPUTS + 4 + 1)  # 4 kept rows, their numbers, a call count
    assert found.gradients == 4 * (WEIGHTS - INPUTS * HIDDEN)
    assert found.params == 4 * WEIGHTS


def test_residuals_of_a_chain_by_hand():
    x = jax.ShapeDtypeStruct((8, 5), jnp.float32)
    params = {"a": jax.ShapeDtypeStruct((5, 6), jnp.float32)}
    # A product keeps its operands only, and both are arguments.
    assert residual_bytes(lambda p, x: jnp.sum(x @ p["a"]), params, x) == 0
    # sin keeps its slope, one number an entry.
    assert residual_bytes(lambda p, x: jnp.sum(jnp.sin(x @ p["a"])), params, x) == 4 * 8 * 6
    deep = residual_bytes(lambda p, x: jnp.sum(jnp.sin(jnp.sin(x @ p["a"]))), params, x)
    assert deep == 2 * 4 * 8 * 6


def test_residuals_shrink_under_remat_and_grow_with_the_batch():
    rule = backward.top_k(density=0.1)
    tx = backward.carry_memory(optax.sgd(0.1))
    found, loss, variables = dry_run(rule, tx)
    twice, _, _ = dry_run(rule, tx, rows=2 * ROWS)
    # The hidden activations at least, and no more than a handful of arrays of their size.
    assert 4 * ROWS * HIDDEN <= found.residuals <= 5 * 4 * ROWS * (HIDDEN + CLASSES)
    assert 1.9 * found.residuals <= twice.residuals <= 2 * found.residuals
    batch = (
        jax.ShapeDtypeStruct((ROWS, INPUTS), jnp.float32),
        jax.ShapeDtypeStruct((ROWS,), jnp.int32),
    )
    assert residual_bytes(jax.checkpoint(loss), variables, *batch) < found.residuals


def test_operations_are_those_of_the_layers():
    rule = backward.unified_top_k(density=0.1, decay=0.5)
    found, _, _ = dry_run(rule, None)
    layers = (
        Layer("hidden_0/kernel", INPUTS, HIDDEN, ROWS, 4, "unified", HIDDEN),
        Layer("output/kernel", HIDDEN, CLASSES, ROWS, CLASSES, "dense"),
    )
    assert found.layers == layers
    hidden, output = map(backward_flops, layers)
    assert found.backward.dense == hidden.dense + output.dense
    assert found.backward.total == hidden.total + output.total
    assert found.forward == 2 * ROWS * (INPUTS * HIDDEN + HIDDEN * CLASSES)


def test_the_count_of_the_program_agrees_where_all_is_dense():
    found, _, _ = dry_run(backward.dense(), None, rows=128, reads_data=r"hidden_0/.*")
    assert [layer.input_gradient for layer in found.layers] == [False, True]
    # Activations and the loss come on top, the first layer's dx does not.
    products = found.forward + found.backward.dense
    assert products < found.program < 1.15 * products


def test_a_first_layer_that_is_none_is_refused():
    with pytest.raises(ValueError, match="layers are: hidden_0/kernel, output/kernel"):
        dry_run(backward.dense(), None, reads_data="hidden")


def test_nothing_is_allocated_for_a_model_that_would_not_fit():
    wide = 1 << 20
    params = {"w": jax.ShapeDtypeStruct((wide, wide), jnp.float32)}  # 4 TiB
    x = jax.ShapeDtypeStruct((1, wide), jnp.float32)
    found = estimate(
        lambda v, x: jnp.sum(x @ v["params"]["w"]), {"params": params}, x, tx=optax.adam(1.0)
    )
    assert found.params == found.gradients == 4 << 40
    assert found.optimizer == 2 * (4 << 40) + 4
    assert found.residuals == 0


def test_the_table_shows_every_number():
    rule = backward.memorized_top_k(density=0.1, decay=0.8)
    found, _, _ = dry_run(rule, backward.carry_memory(optax.adam(1e-3)))
    text = str(found)
    for name in ("params", "optimizer", "gradients", "residuals", "memory", "taps", "batch"):
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert f"{getattr(found, name):,}" in line
    assert f"{found.total:,}" in text
    row = next(line for line in text.splitlines() if "hidden_0/kernel" in line).split()
    assert row[1:6] == ["masked", "16", "24", "40", "4"]
    assert float(row[6]) == pytest.approx(4 * ROWS * INPUTS * HIDDEN, rel=5e-3)
    assert max(len(line) for line in text.splitlines()) < 150


def test_variables_without_params_are_refused():
    with pytest.raises(ValueError, match=r"\['weights'\].*\"params\""):
        estimate(lambda v: v["weights"].sum(), {"weights": jnp.ones(2)})
