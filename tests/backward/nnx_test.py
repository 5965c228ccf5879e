"""Unmodified nnx models: the same laws as for linen."""

import dataclasses

import jax
import jax.numpy as jnp
import linen_models
import numpy as np
import optax
import pytest
from flax import nnx

from sparsetrain import backward

RULE = backward.memorized_top_k(0.1, 0.8)


class Mlp(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(20, 64, rngs=rngs)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.hidden(x)))


class Convolutional(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.output = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.hidden(x)).mean((1, 2)))


class Recurrent(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, cell=nnx.OptimizedLSTMCell):
        self.hidden = nnx.RNN(cell(16, 12, rngs=rngs))
        self.output = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(self.hidden(x)[:, -1])


class Attention(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.MultiHeadAttention(2, 16, decode=False, rngs=rngs)
        self.output = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(self.hidden(x).mean(1))


PATTERN = r"hidden/.*kernel"
# model, inputs, rule, options, shapes of the memories
CASES = {
    "mlp": (Mlp, linen_models.ROWS, RULE, {}, {(64,)}),
    "slot": (
        Mlp,
        linen_models.ROWS,
        backward.memorized_top_k(0.1, 0.8, memory="slot"),
        {"rows": 32},
        {(32, 64)},
    ),
    "conv per example": (
        Convolutional,
        linen_models.IMAGES,
        RULE,
        {"inputs": (linen_models.IMAGES,)},
        {(6, 6, 8)},
    ),
    "conv channels": (
        Convolutional,
        linen_models.IMAGES,
        backward.unified_top_k(0.25, 0.8),
        {},
        {(8,)},
    ),
    "lstm": (
        Recurrent,
        linen_models.SEQUENCES,
        backward.memorized_top_k(0.1, 0.8, groups=4),
        {"rows": 40},
        {(48,)},
    ),
    "attention": (Attention, linen_models.SEQUENCES, RULE, {}, {(2, 8), (16,)}),
}


def loss_of(inputs):
    def loss(model):
        targets = linen_models.labels(inputs)
        return optax.softmax_cross_entropy_with_integer_labels(model(inputs), targets).mean()

    return loss


@pytest.mark.parametrize("name", CASES)
def test_trains_with_plain_optax(name: str) -> None:
    kind, inputs, rule, options, shapes = CASES[name]
    model = backward.nnx.sparsify(kind(nnx.Rngs(0)), {PATTERN: rule}, **options)
    memories = jax.tree.leaves(nnx.state(model, backward.nnx.Memory))
    assert {memory.shape for memory in memories} == shapes
    tx = backward.carry_memory(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)))
    optimizer = nnx.Optimizer(model, tx, wrt=backward.nnx.trained)
    traces = []

    @nnx.jit
    def step(model, optimizer):
        traces.append(1)
        wanted = nnx.DiffState(0, backward.nnx.trained)
        value, grads = nnx.value_and_grad(loss_of(inputs), argnums=wanted)(model)
        optimizer.update(model, grads)
        return value

    losses = [float(step(model, optimizer)) for _ in range(25)]
    assert losses[-1] < losses[0] and len(traces) == 1
    for memory in jax.tree.leaves(nnx.state(model, backward.nnx.Memory)):
        assert np.all(np.isfinite(memory)) and np.any(memory != 0)


@pytest.mark.parametrize("name", CASES)
def test_full_density_is_plain_autodiff(name: str) -> None:
    kind, inputs, rule, options, _ = CASES[name]
    plain = nnx.grad(loss_of(inputs))(kind(nnx.Rngs(0)))
    rule = dataclasses.replace(rule, density=1.0)
    model = backward.nnx.sparsify(kind(nnx.Rngs(0)), {PATTERN: rule}, **options)
    grads = nnx.grad(loss_of(inputs), argnums=nnx.DiffState(0, nnx.Param))(model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), grads, plain)


def test_same_increment_and_gradient_as_linen() -> None:
    inputs = linen_models.ROWS
    linen = backward.linen.sparsify(linen_models.Mlp(), {linen_models.HIDDEN: RULE})
    variables = linen.init(jax.random.key(1), inputs)
    model = Mlp(nnx.Rngs(0))
    for name in ("hidden", "output"):
        layer = getattr(model, name)
        layer.kernel[...] = variables["params"][name]["kernel"]
        layer.bias[...] = variables["params"][name]["bias"]
    backward.nnx.sparsify(model, {PATTERN: RULE})
    memory = 0.01 * jax.random.normal(jax.random.key(2), (64,))
    model.hidden.sparse_memory[...] = memory
    variables["memory"]["hidden"]["kernel"] = memory

    def loss(variables):
        logits = linen.apply(variables, inputs)
        targets = linen_models.labels(inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    expected = jax.grad(loss)(variables)
    grads = nnx.grad(loss_of(inputs), argnums=nnx.DiffState(0, backward.nnx.trained))(model)
    np.testing.assert_allclose(
        grads["hidden"]["kernel"][...], expected["params"]["hidden"]["kernel"], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        grads["hidden"]["sparse_memory"][...],
        expected["memory"]["hidden"]["kernel"],
        rtol=1e-5,
        atol=1e-7,
    )


def test_densify_gives_the_plain_model_back() -> None:
    model = backward.nnx.sparsify(Mlp(nnx.Rngs(0)), {PATTERN: RULE})
    plain = Mlp(nnx.Rngs(0))
    assert backward.nnx.densify(model) is model
    assert type(model.hidden) is nnx.Linear
    assert not any(name.startswith("sparse") for name in vars(model.hidden))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(plain))
    inputs = linen_models.ROWS
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.grad(loss_of(inputs))(model),
        nnx.grad(loss_of(inputs))(plain),
    )


def test_errors_leave_the_model_as_it_was() -> None:
    model = Convolutional(nnx.Rngs(0))
    before = nnx.graphdef(model)
    with pytest.raises(
        ValueError, match=r"\['encoder'\] matched no layer.*hidden/kernel, output/kernel"
    ):
        backward.nnx.sparsify(model, {"encoder": RULE})
    with pytest.raises(ValueError, match=r"give inputs=\(x,\)"):
        backward.nnx.sparsify(model, {PATTERN: RULE})
    with pytest.raises(ValueError, match="say how many"):
        backward.nnx.sparsify(
            model, {r"output/kernel": backward.memorized_top_k(0.1, 0.8, memory="slot")}
        )
    assert nnx.graphdef(model) == before


def test_stacked_layers_get_stacked_memories() -> None:
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(key):
        return nnx.Linear(20, 20, rngs=nnx.Rngs(key))

    layers = make(jax.random.split(jax.random.key(0), 3))
    backward.nnx.sparsify(layers, {"kernel": RULE})
    assert layers.sparse_memory.shape == (3, 20)

    def loss(layers):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x, layer):
            return nnx.relu(layer(x))

        return forward(linen_models.ROWS, layers).sum()

    grads = nnx.grad(loss, argnums=nnx.DiffState(0, backward.nnx.trained))(layers)
    increments = grads["sparse_memory"][...]
    assert increments.shape == (3, 20) and jnp.all(jnp.any(increments != 0, axis=1))
