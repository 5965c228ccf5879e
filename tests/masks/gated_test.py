"""The optimizer's program with choices inside: the same numbers as with choices at the end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain.masks.gated import either, skip

OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(optax.linear_schedule(1.0, 0.1, 9), momentum=0.9, nesterov=True),
    "adam": optax.adamw(1e-2),
    "lion": optax.lion(1e-2),
    "adafactor": optax.adafactor(1e-2),
    "injected": optax.inject_hyperparams(optax.adam)(optax.linear_schedule(1.0, 0.1, 9)),
    "multi_steps": optax.MultiSteps(optax.adam(1e-2), 2),
    "amsgrad": optax.amsgrad(1e-2),
    "last_gradient": optax.GradientTransformation(
        lambda params: (params, params, jnp.int32(7), jnp.ones(3)),
        lambda g, state, params=None: (state[0], (g, g, jnp.int32(0), state[3])),
    ),
}


def trained(tx: optax.GradientTransformation, steps: int = 3):
    params = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": jnp.ones(3)}
    state = tx.init(params)
    for i in range(steps):
        gradients = jax.tree.map(lambda p, scale=i: jnp.sin(p + scale), params)
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return gradients, state, params


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def close(one, other):
    """To rounding: two programs may contract products and sums otherwise."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, other)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_update_leaves_the_state(name):
    tx = OPTIMIZERS[name]
    gradients, state, params = trained(tx)

    @jax.jit
    def step(is_skipped):
        return skip(is_skipped, lambda: tx.update(gradients, state, params), state)

    equal(step(True)[1], state)
    close(step(False), jax.jit(tx.update)(gradients, state, params))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_of_two_updates_is_the_one_alone(name):
    tx = OPTIMIZERS[name]
    gradients, state, params = trained(tx)

    def fast(gradients, state, params):
        return tx.update(jax.tree.map(lambda g: 3.0 * g, gradients), state, params)

    @jax.jit
    def step(is_second):
        return either(
            is_second,
            lambda: tx.update(gradients, state, params),
            lambda: fast(gradients, state, params),
        )

    close(step(False), jax.jit(tx.update)(gradients, state, params))
    close(step(True), jax.jit(fast)(gradients, state, params))


def test_states_made_in_another_order_are_chosen_too():
    def forward(x):
        return x, (x + 1.0, 2.0 * x)

    def backward(x):
        twice = 3.0 * x
        return twice, (x + 5.0, twice)

    def reverse(x):
        later = 4.0 * x
        return later, (x + 7.0, later)

    x = jnp.arange(3.0)
    for second in (backward, reverse):
        for is_second in (False, True):
            found = jax.jit(
                lambda yes, second=second: either(yes, lambda: forward(x), lambda: second(x))
            )(is_second)
            close(found, (second if is_second else forward)(x))


@pytest.mark.parametrize("choice", ["skip", "either"])
def test_each_moment_is_read_by_one_kernel_and_not_copied(choice):
    tx = optax.adam(optax.constant_schedule(1e-2))
    params = {"w": jnp.ones((64, 128))}
    state = tx.init(params)

    def step(params, state, gradients, yes):
        def update():
            return tx.update(gradients, state, params)

        updates, state_after = (
            skip(yes, update, state) if choice == "skip" else either(yes, update, update)
        )
        return optax.apply_updates(params, updates), state_after

    text = (
        jax.jit(step, donate_argnums=(0, 1))
        .lower(params, state, params, jnp.bool_(True))
        .compile()
        .as_text()
    )
    entry = text[text.index("ENTRY") :]
    assert "f32[64,128]{1,0} copy(" not in entry
    # mu, nu and the weights: a fusion each.
    assert entry.count("= f32[64,128]{1,0} fusion(") == 3
