"""Unmodified linen models: every lifted transformation, and the laws that must hold through each."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import linen_models
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from linen_models import HIDDEN, MODELS, ROWS

from sparsetrain import backward, models, tree

RULE = backward.memorized_top_k(0.1, 0.8)
everyone = pytest.mark.parametrize("name", MODELS)


def loss_of(model, inputs):
    def loss(variables):
        rngs = {"dropout": jax.random.key(3)}
        if "batch_stats" in variables:
            logits, _ = model.apply(variables, inputs, rngs=rngs, mutable=["batch_stats"])
        else:
            logits = model.apply(variables, inputs, rngs=rngs)
        targets = linen_models.labels(inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return loss


@everyone
def test_parameters_start_as_in_the_plain_model(name: str) -> None:
    model, inputs, pattern, rows = MODELS[name]
    rngs = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    plain = model.init(rngs, inputs)
    variables = backward.linen.sparsify(model, {pattern: RULE}, rows).init(rngs, inputs)
    assert set(variables) == set(plain) | {"memory"}
    jax.tree.map(np.testing.assert_array_equal, variables["params"], plain["params"])
    kernels = [p for p in tree.paths(plain["params"]) if tree.first_match({pattern: 0}, p)]
    assert tree.paths(variables["memory"]) == kernels
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables["memory"]))


@everyone
def test_full_density_is_plain_autodiff(name: str) -> None:
    model, inputs, pattern, rows = MODELS[name]
    rngs = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    rule = backward.memorized_top_k(1.0, 0.8)
    sparse = backward.linen.sparsify(model, {pattern: rule}, rows)
    variables = sparse.init(rngs, inputs)
    plain = {name: part for name, part in variables.items() if name != "memory"}
    got = jax.jit(jax.grad(loss_of(sparse, inputs)))(variables)
    expected = jax.jit(jax.grad(loss_of(model, inputs)))(plain)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        got["params"],
        expected["params"],
    )
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), got["memory"])


@everyone
def test_trains_with_plain_optax_and_compiles_once(name: str) -> None:
    model, inputs, pattern, rows = MODELS[name]
    sparse = backward.linen.sparsify(model, {pattern: RULE}, rows)
    rngs = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    variables = sparse.init(rngs, inputs)
    tx = backward.carry_memory(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)))
    state = tx.init(variables)
    loss = loss_of(sparse, inputs)

    @jax.jit
    def step(variables, state):
        grads = jax.grad(loss)(variables)
        updates, state = tx.update(grads, state, variables)
        return optax.apply_updates(variables, updates), state

    start = variables
    for _ in range(30):
        variables, state = step(variables, state)
    assert step._cache_size() == 1
    assert loss(variables) < loss(start)
    for memory in jax.tree.leaves(variables["memory"]):
        assert np.all(np.isfinite(memory)) and np.any(memory != 0)
    if "batch_stats" in start:  # the optimizer leaves other collections alone
        jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], start["batch_stats"])


@everyone
def test_without_memory_it_is_the_plain_model(name: str) -> None:
    model, inputs, pattern, rows = MODELS[name]
    sparse = backward.linen.sparsify(model, {pattern: RULE}, rows)
    rngs = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    variables = sparse.init(rngs, inputs)
    variables.pop("memory")
    got = jax.jit(jax.value_and_grad(loss_of(sparse, inputs)))(variables)
    expected = jax.jit(jax.value_and_grad(loss_of(model, inputs)))(variables)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_hidden_layer_equals_the_product_by_hand() -> None:
    model, inputs = linen_models.Mlp(), ROWS
    sparse = backward.linen.sparsify(model, {HIDDEN: RULE})
    variables = sparse.init(jax.random.key(1), inputs)
    memory = 0.01 * jax.random.normal(jax.random.key(5), (64,))
    variables["memory"]["hidden"]["kernel"] = memory
    grads = jax.grad(loss_of(sparse, inputs))(variables)

    def tail(h):
        output = variables["params"]["output"]
        logits = nn.relu(h) @ output["kernel"] + output["bias"][None]
        targets = linen_models.labels(inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    hidden = variables["params"]["hidden"]
    dh = jax.grad(tail)(inputs @ hidden["kernel"] + hidden["bias"][None])
    chosen = RULE.select(dh, memory)
    np.testing.assert_allclose(
        grads["params"]["hidden"]["kernel"], inputs.T @ chosen.to_dense(64), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(grads["params"]["hidden"]["bias"], dh.sum(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        grads["memory"]["hidden"]["kernel"], chosen.increment, rtol=1e-5, atol=1e-7
    )


def test_rnn_hands_out_the_memory_once_over_the_unrolled_sequence() -> None:
    """Five steps of eight rows are 40 rows: with decay 0 they take all of M out, once and not five times."""
    model, inputs, pattern, rows = MODELS["lstm"]
    rule = backward.memorized_top_k(0.1, 0.0)
    sparse = backward.linen.sparsify(model, {pattern: rule}, rows)
    variables = sparse.init(jax.random.key(1), inputs)
    filled = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(6), leaf.shape), variables["memory"]
    )
    grads = jax.jit(jax.grad(loss_of(sparse, inputs)))({**variables, "memory": filled})
    jax.tree.map(
        lambda old, increment: np.testing.assert_allclose(increment, -old, rtol=1e-5, atol=1e-6),
        filled,
        grads["memory"],
    )


def test_unreached_layer_keeps_its_memory() -> None:
    sparse = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: RULE})
    variables = sparse.init(jax.random.key(1), ROWS)
    variables["memory"] = jax.tree.map(lambda leaf: leaf + 1.0, variables["memory"])

    def loss(variables):
        sparse.apply(variables, ROWS)
        return variables["params"]["output"]["bias"].sum()

    grads = jax.grad(loss)(variables)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), grads["memory"])


def test_microbatches_add_up_to_the_whole_step() -> None:
    sparse = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: RULE}, rows=32)
    variables = sparse.init(jax.random.key(1), ROWS)
    variables["memory"]["hidden"]["kernel"] = 0.01 * jax.random.normal(jax.random.key(5), (64,))
    targets = linen_models.labels(ROWS)

    def total(variables, x, y):
        logits = sparse.apply(variables, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).sum() / 32

    whole = jax.grad(total)(variables, ROWS, targets)

    def body(grads, parts):
        return jax.tree.map(jnp.add, grads, jax.grad(total)(variables, *parts)), None

    zeros = jax.tree.map(jnp.zeros_like, variables)
    split, _ = jax.lax.scan(body, zeros, (ROWS.reshape(4, 8, 20), targets.reshape(4, 8)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), split, whole)

    each = jax.vmap(lambda x, y: jax.grad(total)(variables, x[None], y[None]))(ROWS, targets)
    summed = jax.tree.map(lambda leaf: leaf.sum(0), each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), summed, whole)


def test_shared_and_recurrent_layers_ask_for_rows() -> None:
    with pytest.raises(
        ValueError, match="'hidden/kernel' is called more than once; say with rows="
    ):
        backward.linen.sparsify(linen_models.Shared(), {HIDDEN: RULE}).init(jax.random.key(0), ROWS)
    with pytest.raises(ValueError, match="recurrent cell and is called once per time step"):
        model, inputs, pattern, _ = MODELS["lstm"]
        backward.linen.sparsify(model, {pattern: RULE}).init(jax.random.key(0), inputs)
    # a rule without memory does not mind
    model = backward.linen.sparsify(linen_models.Shared(), {HIDDEN: backward.top_k(0.1)})
    model.init(jax.random.key(0), ROWS)


def test_rows_may_differ_by_layer() -> None:
    rows = {r"hidden/.*": 64}
    model = backward.linen.sparsify(linen_models.Shared(), {r".*kernel": RULE}, rows)
    variables = model.init(jax.random.key(0), ROWS)
    assert set(variables["memory"]) == {"hidden", "output"}
    jax.grad(loss_of(model, ROWS))(variables)


def test_rule_that_matches_nothing_lists_the_layers() -> None:
    model = backward.linen.sparsify(linen_models.Mlp(), {r"encoder/.*": RULE, HIDDEN: RULE})
    with pytest.raises(
        ValueError, match=r"\['encoder/\.\*'\] matched no layer.*hidden/kernel, output/kernel"
    ):
        model.init(jax.random.key(0), ROWS)
    shadowed = backward.linen.sparsify(linen_models.Mlp(), {r".*": RULE, HIDDEN: RULE})
    with pytest.raises(ValueError, match="first match counts"):
        shadowed.init(jax.random.key(0), ROWS)
    optimized = backward.linen.sparsify(
        linen_models.Recurrent(nn.OptimizedLSTMCell), {linen_models.CELLS: RULE}, rows=40
    )
    with pytest.raises(ValueError, match="The layers are: output/kernel"):
        optimized.init(jax.random.key(0), linen_models.SEQUENCES)


def test_first_match_wins_and_dense_exempts() -> None:
    rules = {r"output/kernel": backward.dense(), r".*": RULE}
    variables = backward.linen.sparsify(linen_models.Mlp(), rules).init(jax.random.key(0), ROWS)
    assert tree.paths(variables["memory"]) == ["hidden/kernel"]


def test_layer_with_its_own_product_is_refused() -> None:
    model = nn.Dense(4, dot_general=jax.lax.dot_general)
    with pytest.raises(ValueError, match="already has a dot_general of its own"):
        backward.linen.sparsify(model, {r"kernel": RULE}).init(jax.random.key(0), ROWS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": {}}, "give at least one"),
        ({"rules": {"(": RULE}}, "not a regular expression"),
        ({"rules": {HIDDEN: 0.04}}, "not a rule"),
        ({"rules": {HIDDEN: RULE}, "rows": 0}, "rows=0: must be at least 1"),
        ({"rules": {HIDDEN: RULE}, "rows": {".*": -2}}, "must be at least 1"),
        ({"rules": {HIDDEN: RULE}, "kernel_layout": "IO"}, "kernel_layout='IO'"),
    ],
)
def test_arguments_are_checked_at_construction(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backward.linen.sparsify(linen_models.Mlp(), **arguments)


def test_partial_last_batch() -> None:
    sparse = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: RULE})
    variables = sparse.init(jax.random.key(1), ROWS)
    for batch in (ROWS, ROWS[:5]):
        grads = jax.grad(loss_of(sparse, batch))(variables)
        variables = {
            **variables,
            "memory": jax.tree.map(jnp.add, variables["memory"], grads["memory"]),
        }
    assert np.all(np.isfinite(variables["memory"]["hidden"]["kernel"]))
    slot = backward.linen.sparsify(
        linen_models.Mlp(), {HIDDEN: backward.memorized_top_k(0.1, 0.8, memory="slot")}
    )
    variables = slot.init(jax.random.key(1), ROWS)
    with pytest.raises(ValueError, match="made for 32 rows a step and met a call with 5"):
        jax.grad(loss_of(slot, ROWS[:5]))(variables)


def test_bfloat16_compute_with_float32_parameters() -> None:
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(64, name="hidden", dtype=jnp.bfloat16)(x))
            return nn.Dense(10, name="output", dtype=jnp.float32)(x)

    sparse = backward.linen.sparsify(Half(), {HIDDEN: RULE})
    variables = sparse.init(jax.random.key(1), ROWS)
    grads = jax.grad(loss_of(sparse, ROWS))(variables)
    jax.tree.map(lambda g, v: np.testing.assert_equal(g.dtype, v.dtype), grads, variables)
    assert grads["memory"]["hidden"]["kernel"].dtype == jnp.float32


def test_float64_kernel_gets_a_float64_memory() -> None:
    with jax.enable_x64(True):
        model = nn.Dense(8, param_dtype=jnp.float64)
        x = jnp.ones((2, 3), jnp.float64)
        variables = backward.linen.sparsify(model, {"kernel": RULE}).init(jax.random.key(0), x)
        assert variables["memory"]["kernel"].dtype == jnp.float64


def test_train_state() -> None:
    sparse = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: RULE})
    variables = sparse.init(jax.random.key(1), ROWS)
    state = TrainState.create(
        apply_fn=sparse.apply, params=variables, tx=backward.carry_memory(optax.adam(1e-2))
    )

    @jax.jit
    def step(state):
        def loss(variables):
            logits = state.apply_fn(variables, ROWS)
            targets = linen_models.labels(ROWS)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    losses = []
    for _ in range(20):
        state, value = step(state)
        losses.append(float(value))
    assert losses[-1] < losses[0] and np.any(state.params["memory"]["hidden"]["kernel"] != 0)


def test_mutable_params_are_split_again() -> None:
    sparse = backward.linen.sparsify(linen_models.Mlp(), {HIDDEN: RULE})
    variables = sparse.init(jax.random.key(1), ROWS)
    _, state = sparse.apply(variables, ROWS, mutable=True)
    jax.tree.map(np.testing.assert_array_equal, dict(state), variables)


def test_layers_reports_shapes_without_computing() -> None:
    model, inputs, _, _ = MODELS["convolution"]
    sparse = backward.linen.sparsify(model, {HIDDEN: backward.unified_top_k(0.25)})
    shapes = sparse.layers(jax.random.key(0), jax.ShapeDtypeStruct(inputs.shape, inputs.dtype))
    assert [(s.path, s.kind, s.rows, s.inputs, s.outputs, s.positions) for s in shapes] == [
        ("hidden/kernel", "conv", 8, 27, 8, 36),
        ("output/kernel", "dense", 8, 8, 10, 1),
    ]
    assert shapes[0].rule == backward.unified_top_k(0.25) and shapes[1].rule is None


@pytest.mark.parametrize("padded", [True, False])
def test_more_padding_changes_nothing_where_it_is_named(padded: bool) -> None:
    words = np.array([[3, 1, 4, 1, 5], [2, 6, 0, 0, 0]])
    longer = np.pad(words, ((0, 0), (0, 4)))
    rule = backward.memorized_top_k(0.3, 0.8, padded=padded)
    gates = {r"(forward|backward)_0/.*/kernel": rule}
    tagger = models.Tagger(symbols=9, tags=3, embedding=6, hidden=8, layers=1)
    sparse = backward.linen.sparsify(tagger, gates, rows=10)
    variables = sparse.init(jax.random.key(0), words)
    # As after some steps: something is remembered.
    memory = jax.tree.map(lambda m: jax.random.normal(jax.random.key(1), m.shape), variables)
    variables = {"params": variables["params"], "memory": memory["memory"]}

    def gradient(tokens: np.ndarray) -> dict:
        def loss(variables):
            logits = sparse.apply(variables, tokens)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens % 3)
            return jnp.where(tokens > 0, losses, 0).sum()

        return jax.grad(loss)(variables)

    same = [
        np.allclose(a, b, rtol=1e-4, atol=1e-6)
        for a, b in zip(*map(jax.tree.leaves, map(gradient, (words, longer))), strict=True)
    ]
    assert all(same) == padded
