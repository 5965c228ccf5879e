"""What every registered backward rule must keep; a new rule is tested as soon as it stands in RULES."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward

ROWS, INPUTS, OUTPUTS = 6, 5, 24
DIMENSIONS = (((1,), (0,)), ((), ()))
# One member for every branch that a rule's options open. New rules with required arguments need a
# line here.
MEMBERS = {
    "dense": backward.dense(),
    "top_k": backward.top_k(0.25),
    "top_k groups": backward.top_k(0.25, groups=4),
    "top_k union": backward.top_k(1 / 24),
    "memorized_top_k": backward.memorized_top_k(0.25, 0.8),
    "memorized_top_k groups": backward.memorized_top_k(0.25, 0.8, groups=2),
    "memorized_top_k union": backward.memorized_top_k(1 / 24, 0.8),
    "memorized_top_k adaptive": backward.memorized_top_k(0.25, "adaptive"),
    "memorized_top_k slot adaptive": backward.memorized_top_k(0.25, "adaptive", memory="slot"),
    "memorized_top_k slot": backward.memorized_top_k(0.25, 0.8, memory="slot"),
    "unified_top_k": backward.unified_top_k(0.25),
    "unified_top_k memory": backward.unified_top_k(0.25, 0.5),
    "unified_top_k adaptive": backward.unified_top_k(0.25, "adaptive"),
    "grouped_top_k": backward.grouped_top_k(0.25, 3),
    "grouped_top_k memory": backward.grouped_top_k(0.25, 2, 0.8),
    "grouped_top_k union": backward.grouped_top_k(2 / 24, 3, 0.8),
    "unified_top_k l2 block": backward.unified_top_k(0.25, 0.5, score="l2", block=4),
    "random_k": backward.random_k(0.25, key=3),
    "random_k unbiased": backward.random_k(0.25, key=3, unbiased=True),
}
everyone = pytest.mark.parametrize("name", MEMBERS)


def operands(dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(7), 3)
    shapes = ((ROWS, INPUTS), (INPUTS, OUTPUTS), (ROWS, OUTPUTS))
    x, kernel, dh = (
        jax.random.normal(k, s, jnp.float32).astype(dtype)
        for k, s in zip(keys, shapes, strict=True)
    )
    return x, kernel, dh


def gradients(rule, x, kernel, dh, memory, rows=None):
    def loss(x, kernel, memory):
        y = backward.sparse_dot_general(x, kernel, memory, DIMENSIONS, rule, rows=rows)
        return jnp.sum(y.astype(jnp.float32) * dh.astype(jnp.float32))

    return jax.grad(loss, argnums=(0, 1, 2))(x, kernel, memory)


def test_every_registered_rule_has_a_member() -> None:
    assert {name.split()[0] for name in MEMBERS} == set(backward.RULES)
    for name, rule in MEMBERS.items():
        assert isinstance(rule, backward.BackwardRule)
        made = inspect.signature(backward.RULES[name.split()[0]]).return_annotation
        assert type(rule).__name__ in str(made)


@everyone
def test_hashable_equal_and_frozen(name: str) -> None:
    rule = MEMBERS[name]
    assert hash(rule) == hash(rule.at("a").at("a")) or name.startswith("random_k")
    assert rule.at("a") == rule.at("a")
    with pytest.raises(AttributeError):
        rule.density = 0.5


@everyone
def test_selection_protocol(name: str) -> None:
    rule = MEMBERS[name]
    _, _, dh = operands()
    memory = rule.init((OUTPUTS,), ROWS)
    chosen = rule.select(dh, memory)
    width = rule.width(OUTPUTS, ROWS)
    if chosen.is_compact:
        assert chosen.kept.dtype == jnp.int32 and chosen.values.shape == (ROWS, width)
        assert len(np.unique(chosen.kept)) == width  # promised unique to the scatters
    else:
        assert width is None and chosen.values.shape == chosen.kept.shape == dh.shape
        np.testing.assert_array_equal(np.where(chosen.kept, 0, chosen.values), 0)
    assert (chosen.increment is None) == (memory is None)
    if memory is not None:
        assert chosen.increment.shape == memory.shape
        assert chosen.increment.dtype == memory.dtype == jnp.float32


@everyone
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_kept_and_no_second_compile(name: str, dtype: jnp.dtype) -> None:
    rule = MEMBERS[name]
    x, kernel, dh = operands(dtype)
    memory = rule.init((OUTPUTS,), ROWS)
    step = jax.jit(lambda *arrays: gradients(rule, *arrays))
    for scale in (1, 2):
        dx, dkernel, increment = step(x * scale, kernel, dh, memory)
        assert dx.dtype == dkernel.dtype == dtype
        assert (increment is None) == (memory is None)
        if memory is not None:
            assert increment.dtype == jnp.float32
            memory = memory + increment
    assert step._cache_size() == 1


@everyone
def test_forward_is_untouched(name: str) -> None:
    x, kernel, _ = operands()
    rule = MEMBERS[name]
    memory = rule.init((OUTPUTS,), ROWS)
    got = backward.sparse_dot_general(x, kernel, memory, DIMENSIONS, rule)
    np.testing.assert_array_equal(got, jax.lax.dot_general(x, kernel, DIMENSIONS))


@everyone
def test_products_are_those_of_the_dense_selection(name: str) -> None:
    rule = MEMBERS[name]
    x, kernel, dh = operands()
    memory = rule.init((OUTPUTS,), ROWS)
    g = np.asarray(rule.select(dh, memory).to_dense(OUTPUTS), np.float64)
    dx, dkernel, _ = gradients(rule, x, kernel, dh, memory)
    np.testing.assert_allclose(dx, g @ np.asarray(kernel, np.float64).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dkernel, np.asarray(x, np.float64).T @ g, rtol=1e-5, atol=1e-5)


@everyone
def test_full_density_is_plain_autodiff(name: str) -> None:
    rule = MEMBERS[name]
    if hasattr(rule, "density"):
        rule = dataclasses.replace(rule, density=1.0)
    x, kernel, dh = operands()
    memory = rule.init((OUTPUTS,), ROWS)
    dx, dkernel, increment = gradients(rule, x, kernel, dh, memory)
    plain = jax.grad(lambda x, kernel: jnp.sum((x @ kernel) * dh), argnums=(0, 1))(x, kernel)
    np.testing.assert_array_equal(dx, plain[0])
    np.testing.assert_array_equal(dkernel, plain[1])
    if increment is not None:
        np.testing.assert_array_equal(increment, np.zeros_like(increment))


@everyone
def test_non_finite_propagates_and_memory_stays(name: str) -> None:
    rule = MEMBERS[name]
    x, kernel, dh = operands()
    memory = rule.init((OUTPUTS,), ROWS)
    if memory is not None and memory.ndim:
        memory = jax.random.normal(jax.random.key(1), memory.shape)
    for bad in (jnp.nan, jnp.inf):
        dx, dkernel, increment = gradients(rule, x, kernel, dh.at[2, 3].set(bad), memory)
        if not name.startswith("random_k"):  # which may well not draw the bad column
            assert not np.all(np.isfinite(dx)) and not np.all(np.isfinite(dkernel))
        if memory is not None and memory.ndim:
            np.testing.assert_array_equal(increment, np.zeros_like(increment))


@everyone
def test_zero_cotangent_gives_zero_and_no_nan(name: str) -> None:
    rule = MEMBERS[name]
    x, kernel, dh = operands()
    grads = gradients(rule, x, kernel, jnp.zeros_like(dh), rule.init((OUTPUTS,), ROWS))
    np.testing.assert_array_equal(grads[0], 0)
    np.testing.assert_array_equal(grads[1], 0)
    if grads[2] is not None and grads[2].ndim:
        np.testing.assert_array_equal(grads[2], 0)


@everyone
def test_same_under_remat_jit_and_vmap_over_seeds(name: str) -> None:
    rule = MEMBERS[name]
    x, kernel, dh = operands()
    memory = rule.init((OUTPUTS,), ROWS)
    plain = jax.jit(lambda *a: gradients(rule, *a))(x, kernel, dh, memory)

    def remat_loss(x, kernel, memory):
        product = jax.checkpoint(
            lambda x, k, m: backward.sparse_dot_general(x, k, m, DIMENSIONS, rule)
        )
        return jnp.sum(product(x, kernel, memory) * dh)

    remat = jax.grad(remat_loss, argnums=(0, 1, 2))(x, kernel, memory)
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), (x, kernel, dh, memory))
    mapped = jax.vmap(lambda *a: gradients(rule, *a))(*stacked)
    for a, b, c in zip(*map(jax.tree.leaves, (plain, remat, mapped)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(c[1], a, rtol=1e-5, atol=1e-6)


# A split changes a selection that the rows share and a decay that follows them; a slot memory refuses it.
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MEMBERS
        if name.startswith("memorized") and "slot" not in name and "adaptive" not in name
    ],
)
def test_rows_may_be_split_over_calls(name: str) -> None:
    """With `rows` given, microbatches in lax.scan add up to the step on the whole batch."""
    rule = MEMBERS[name]
    x, kernel, dh = operands()
    memory = rule.init((OUTPUTS,), ROWS)
    memory = jax.random.normal(jax.random.key(1), memory.shape)
    whole = gradients(rule, x, kernel, dh, memory, rows=ROWS)

    def microbatches(kernel, memory):
        def body(total, parts):
            x, dh = parts
            y = backward.sparse_dot_general(x, kernel, memory, DIMENSIONS, rule, rows=ROWS)
            return total + jnp.sum(y * dh), None

        halves = (x.reshape(3, 2, INPUTS), dh.reshape(3, 2, OUTPUTS))
        return jax.lax.scan(body, 0.0, halves)[0]

    dkernel, increment = jax.grad(microbatches, argnums=(0, 1))(kernel, memory)
    np.testing.assert_allclose(increment, whole[2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dkernel, whole[1], rtol=1e-5, atol=1e-5)


@everyone
def test_scalar_and_empty_outputs_have_defined_behaviour(name: str) -> None:
    rule = MEMBERS[name]
    if getattr(rule, "groups", 1) > 1 or getattr(rule, "block", 1) > 1:
        with pytest.raises(ValueError, match="must divide"):
            rule.init((1,), 2)
        return
    column = jnp.arange(1.0, ROWS + 1)[:, None]
    memory = rule.init((1,), ROWS)
    chosen = rule.select(column, memory)  # one output: always kept
    np.testing.assert_array_equal(chosen.to_dense(1), column)
    if name != "dense":
        with pytest.raises(ValueError, match=r"empty|must divide"):
            rule.select(column[:, :0], None if memory is None else rule.init((0,), ROWS))


@everyone
def test_trains_through_optax(name: str) -> None:
    """Fifty Adam steps on a regression problem: the loss falls, state keeps its structure."""
    rule = MEMBERS[name]
    x = jax.random.normal(jax.random.key(0), (ROWS, INPUTS))
    target = x @ jax.random.normal(jax.random.key(1), (INPUTS, OUTPUTS))
    variables = {"params": jnp.zeros((INPUTS, OUTPUTS)), "memory": rule.init((OUTPUTS,), ROWS)}
    tx = backward.carry_memory(optax.adam(0.1))
    state = tx.init(variables)

    def loss(v):
        y = backward.sparse_dot_general(x, v["params"], v["memory"], DIMENSIONS, rule)
        return jnp.mean((y - target) ** 2)

    @jax.jit
    def step(v, state):
        updates, state = tx.update(jax.grad(loss)(v), state, v)
        return optax.apply_updates(v, updates), state

    structure = jax.tree.structure((variables, state))
    before = loss(variables)
    for _ in range(50):
        variables, state = step(variables, state)
    assert jax.tree.structure((variables, state)) == structure
    assert loss(variables) < 0.7 * before
