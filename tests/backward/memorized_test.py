"""The laws of methods.md 2.14 for the memory, and every way it can be misused."""

import jax
import jax.numpy as jnp
import meprop
import numpy as np
import pytest

from sparsetrain import backward

DIMENSIONS = (((1,), (0,)), ((), ()))


def run_step(rule, x, kernel, dh, memory, rows=None):
    def loss(x, kernel, memory):
        y = backward.sparse_dot_general(x, kernel, memory, DIMENSIONS, rule, rows=rows)
        return jnp.sum(y * dh)

    return jax.grad(loss, argnums=(0, 1, 2))(x, kernel, memory)


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize(
    ("kind", "decay"), [("mean", 0.8), ("slot", 0.8), ("mean", 0.0), ("unified", 0.5)]
)
def test_equals_the_float64_port_over_many_steps(kind: str, k: int, decay: float) -> None:
    """decay = 0 is meProp; the rest is MSBP. The port keeps the paper's m, we keep the total."""
    rng = np.random.default_rng(k)
    rows, inputs, outputs = 4, 5, 12
    kernel = rng.standard_normal((inputs, outputs))
    density = k / outputs
    if kind == "unified":
        rule = backward.unified_top_k(density, decay)
    else:
        rule = backward.memorized_top_k(density, decay, memory=kind)
    with jax.enable_x64(True):
        memory = rule.init((outputs,), rows).astype(jnp.float64)
        m = None if kind != "slot" else np.zeros((rows, outputs))
        for _ in range(6):
            x, dh = rng.standard_normal((rows, inputs)), rng.standard_normal((rows, outputs))
            dx, dkernel, increment = run_step(rule, x, jnp.asarray(kernel), dh, memory)
            memory = memory + increment
            expected = meprop.step(x, kernel.T, dh, k, decay, m, shared=kind == "unified")
            m = expected["m"]
            np.testing.assert_allclose(dx, expected["dx"], atol=1e-12)
            np.testing.assert_allclose(dkernel.T, expected["dW"], atol=1e-12)
            np.testing.assert_allclose(memory / (1 if kind == "slot" else rows), m, atol=1e-12)


def test_conservation() -> None:
    """sum_i g_i + M_new / decay = sum_i dh_i + M_old, for any decay > 0 and any row count."""
    for rows in (1, 3, 8):
        dh = jax.random.normal(jax.random.key(rows), (rows, 30))
        old = jax.random.normal(jax.random.key(99), (30,))
        chosen = backward.memorized_top_k(0.2, 0.7).select(dh, old)
        left = chosen.to_dense(30).sum(0) + (old + chosen.increment) / 0.7
        np.testing.assert_allclose(left, dh.sum(0) + old, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["mean", "slot"])
@pytest.mark.parametrize("decay", [0.7, "adaptive"])
def test_padding_takes_no_part(kind: str, decay: float | str) -> None:
    """As if the other rows came alone, in a step of as many rows; what padding is owed stays."""
    live = np.array([0, 3, 4])
    dh = jnp.zeros((6, 30)).at[live].set(jax.random.normal(jax.random.key(0), (3, 30)))
    memory = jax.random.normal(jax.random.key(1), (30,) if kind == "mean" else (6, 30))
    chosen = backward.memorized_top_k(0.2, decay, kind, padded=True).select(dh, memory, 6)
    alone = backward.memorized_top_k(0.2, decay, kind)
    if kind == "mean":
        expected = alone.select(dh[live], memory, 6)
        np.testing.assert_allclose(chosen.increment, expected.increment, rtol=1e-5, atol=1e-5)
    else:
        expected = alone.select(dh[live], memory[live], 3)
        assert not np.delete(chosen.increment, live, axis=0).any()
        if decay != "adaptive":  # Norms are means over other rows here.
            np.testing.assert_allclose(chosen.increment[live], expected.increment, rtol=1e-5)
    values = chosen.to_dense(30)
    np.testing.assert_allclose(values[live], expected.to_dense(30), rtol=1e-5)
    assert not np.delete(values, live, axis=0).any()
    drained = alone.select(dh, memory, 6).to_dense(30)
    assert np.delete(drained, live, axis=0).any()


def test_partial_last_batch_keeps_the_identity() -> None:
    """A batch of 3 after batches of 8: the stored total is shared out over those 3."""
    rule = backward.memorized_top_k(0.2, 0.7)
    memory = rule.init((30,))
    for rows in (8, 8, 3):
        dh = jax.random.normal(jax.random.key(rows), (rows, 30))
        chosen = rule.select(dh, memory)
        new = memory + chosen.increment
        left = chosen.to_dense(30).sum(0) + new / 0.7
        np.testing.assert_allclose(left, dh.sum(0) + memory, rtol=2e-5, atol=2e-5)
        memory = new


def test_angle_bound_of_a_sparsifying_function() -> None:
    for k in (1, 5, 20):
        v = jax.random.normal(jax.random.key(k), (50, 40))
        g = backward.top_k(k / 40).select(v, None).to_dense(40)
        cosine = jnp.sum(g * v, -1) / (jnp.linalg.norm(g, axis=-1) * jnp.linalg.norm(v, axis=-1))
        assert jnp.all(cosine >= np.sqrt(k / 40) - 1e-6)


def test_angle_of_the_weights_is_that_of_the_outputs_for_one_example() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 7))
    dh = jax.random.normal(jax.random.key(1), (1, 20))
    g = backward.top_k(0.2).select(dh, None).to_dense(20)

    def cosine(a, b):
        return jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))

    np.testing.assert_allclose(cosine(x.T @ g, x.T @ dh), cosine(g, dh), rtol=1e-5)


def test_bfloat16_keeps_a_float32_memory() -> None:
    rule = backward.memorized_top_k(0.1, 0.8)
    dh = jax.random.normal(jax.random.key(0), (8, 40), jnp.bfloat16)
    memory = rule.init((40,))
    total = np.zeros(40)
    for _ in range(200):
        chosen = rule.select(dh * jnp.bfloat16(1e-3), memory)
        assert chosen.values.dtype == jnp.bfloat16 and chosen.increment.dtype == jnp.float32
        memory = memory + chosen.increment
        total += np.asarray(chosen.to_dense(40), np.float64).sum(0)
    # Small gradients do not get lost: what was sent is what came in, up to memory and bf16 rounding
    # of the sent values.
    came = 200 * np.asarray(dh * jnp.bfloat16(1e-3), np.float64).sum(0)
    lost_by_decay = came - total - np.asarray(memory)
    assert np.all(np.isfinite(lost_by_decay)) and np.abs(total).sum() > 0.3 * np.abs(came).sum()


def test_slot_refuses_another_batch_size() -> None:
    rule = backward.memorized_top_k(0.2, 0.8, memory="slot")
    memory = rule.init((10,), 8)
    assert memory.shape == (8, 10)
    with pytest.raises(ValueError, match="made for 8 rows a step and met a call with 5"):
        rule.select(jnp.zeros((5, 10)), memory)
    with pytest.raises(ValueError, match="made for 8 rows"):
        rule.select(jnp.zeros((8, 10)), memory, rows=16)
    with pytest.raises(ValueError, match="say how many"):
        rule.init((10,))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan")])
def test_decay_range(decay: float) -> None:
    with pytest.raises(ValueError, match="0 <= decay < 1"):
        backward.memorized_top_k(0.1, decay)
    with pytest.raises(ValueError, match="0 <= decay < 1"):
        backward.unified_top_k(0.1, decay)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="memory='table'"):
        backward.memorized_top_k(0.1, 0.5, memory="table")
    with pytest.raises(ValueError, match="must lie in"):
        backward.memorized_top_k(0, 0.5)
    with pytest.raises(ValueError, match="groups=3: must divide the layer's 10 outputs"):
        backward.memorized_top_k(0.1, 0.5, groups=3).init((10,))
    with pytest.raises(ValueError, match="memory=None"):
        backward.memorized_top_k(0.1, 0.5).select(jnp.ones((1, 10)), None)


def test_union_form_selects_what_the_mask_form_selects() -> None:
    """The same rows, once alone (a mask is cheaper) and once in a wide layer (the union is)."""
    narrow, wide = 16, 640
    dh = jax.random.normal(jax.random.key(0), (4, narrow))
    padded = jnp.pad(dh, ((0, 0), (0, wide - narrow)))
    for decay in (0.0, 0.9):
        memory = 0.3 * jax.random.normal(jax.random.key(1), (narrow,))
        mask = backward.memorized_top_k(2 / narrow, decay).select(dh, memory)
        union = backward.memorized_top_k(2 / wide, decay).select(
            padded, jnp.pad(memory, (0, wide - narrow))
        )
        assert union.is_compact and not mask.is_compact
        np.testing.assert_array_equal(union.to_dense(wide)[:, :narrow], mask.to_dense(narrow))
        np.testing.assert_allclose(union.increment[:narrow], mask.increment, atol=1e-6)
