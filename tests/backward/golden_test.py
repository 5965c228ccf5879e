"""The golden table of methods.md 2.14, in float64, through the public product and optimizer helper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward

DH = np.array([[1, -2, 0.5], [0.2, 0.1, -0.4]])
X = np.array([[1.0, 2.0], [3.0, -1.0]])
W = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])  # [n_out, n_in]
DENSITY = 1 / 3
G1 = [[0, -2, 0], [0, 0, -0.4]]
DW1 = [[0, 0], [-2, -4], [-1.2, 0.4]]
DX1 = [[0, -4], [0.4, -0.4]]
UNIFIED_G = [[0, -2, 0], [0, 0.1, 0]]
UNIFIED_DW = [[0, 0], [-1.7, -4.1], [0, 0]]
UNIFIED_DX = [[0, -4], [0, 0.2]]

# rule, then one row a step: m after, dW, dx
TABLE = {
    "mean": (
        backward.memorized_top_k(DENSITY, 0.5),
        [
            ([0.3, 0.025, 0.125], DW1, DX1),
            (
                [0.325, 0.03125, 0.0875],
                [[1.5, -0.5], [-1.975, -3.95], [0, 0]],
                [[0, -3.95], [0.5, 0]],
            ),
        ],
    ),
    "slot": (
        backward.memorized_top_k(DENSITY, 0.5, memory="slot"),
        [
            ([[0.5, 0, 0.25], [0.1, 0.05, 0]], DW1, DX1),
            ([[0.75, 0, 0.375], [0.15, 0.075, 0]], DW1, DX1),
        ],
    ),
    "unified": (
        backward.unified_top_k(DENSITY, 0.5),
        [
            ([0.3, 0, 0.025], UNIFIED_DW, UNIFIED_DX),
            ([0.45, 0, 0.0375], UNIFIED_DW, UNIFIED_DX),
        ],
    ),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("rows", [None, 2])
def test_golden_table(name: str, rows: int | None) -> None:
    rule, steps = TABLE[name]
    with jax.enable_x64(True):
        kernel, bias, x = jnp.asarray(W.T), jnp.zeros(3), jnp.asarray(X)
        memory = rule.init((3,), 2).astype(jnp.float64)
        divisor = 1 if name == "slot" else 2  # the stored total M holds rows * m

        def loss(kernel, bias, x, memory):
            dimensions = (((1,), (0,)), ((), ()))
            y = (
                backward.sparse_dot_general(x, kernel, memory, dimensions, rule, rows=rows)
                + bias[None]
            )
            return jnp.sum(y * DH)  # so that dh is DH

        for m, dw, dx in steps:
            grads = jax.grad(loss, argnums=(0, 1, 2, 3))(kernel, bias, x, memory)
            memory = optax.apply_updates(memory, grads[3])
            np.testing.assert_allclose(memory / divisor, m, atol=1e-15)
            np.testing.assert_allclose(grads[0].T, dw, atol=1e-15)
            np.testing.assert_allclose(grads[2], dx, atol=1e-15)
            np.testing.assert_allclose(grads[1], [1.2, -1.9, 0.1], atol=1e-15)  # dense, no memory
            assert memory.dtype == jnp.float64


def test_selected_values_of_the_table() -> None:
    for name, expected in {"mean": G1, "slot": G1, "unified": UNIFIED_G}.items():
        rule, _ = TABLE[name]
        chosen = rule.select(jnp.asarray(DH, jnp.float32), rule.init((3,), 2))
        np.testing.assert_allclose(chosen.to_dense(3), expected, rtol=1e-6)
