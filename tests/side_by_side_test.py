import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.side_by_side import MOST, side_by_side

X, KERNEL = jax.random.normal(jax.random.key(0), (3, 2, 4, 4, 1)), jnp.ones((3, 3, 1, 2))


def convolve(variables, x, key, nothing=None):
    kernel = variables["kernel"] + jax.random.uniform(key, variables["kernel"].shape)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert nothing is None
    return jnp.sum(y**2), {"same": variables["same"], "other": y}


def multiply(variables, x, key, nothing=None):
    del key, nothing
    return jnp.tanh(x) @ variables["kernel"][0, 0], {"same": variables["same"]}


def arguments(workers):
    keys = jax.random.split(jax.random.key(1), workers)
    kernels = jnp.stack([KERNEL * number for number in range(workers)])
    variables = {"kernel": kernels, "same": jnp.arange(2)}
    return (variables, jnp.resize(X, (workers, *X.shape[1:])), keys, None)


AXES = ({"kernel": 0, "same": None}, 0, 0, None)


@pytest.mark.parametrize("function", [convolve, multiply])
@pytest.mark.parametrize("workers", [1, 2, 3, MOST + 1])
def test_all_workers_get_what_vmap_gives_them(function, workers):
    args = arguments(workers)
    wanted = jax.vmap(function, AXES)(*args)
    for found in (
        jax.vmap(side_by_side(function), AXES)(*args),
        jax.jit(jax.vmap(side_by_side(function), AXES))(*args),
    ):
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_one_worker_is_the_function_itself():
    one = jax.tree.map(
        lambda axis, leaf: leaf[0] if axis == 0 else leaf,
        AXES,
        arguments(2),
        is_leaf=lambda axis: axis is None,
    )
    for a, b in zip(
        jax.tree.leaves(side_by_side(convolve)(*one)), jax.tree.leaves(convolve(*one)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("workers", "groups"), [(2, 1), (MOST, 1), (MOST + 1, MOST + 1)])
def test_copies_are_made_up_to_a_number_of_workers(workers, groups):
    program = jax.make_jaxpr(jax.vmap(side_by_side(convolve), AXES))(*arguments(workers))
    assert f"feature_group_count={groups}\n" in str(program)


def test_products_are_batched():
    many = jax.vmap(side_by_side(multiply), AXES)
    assert str(jax.make_jaxpr(many)(*arguments(4))).count("dot_general[") == 1


def test_a_loop_in_all_workers_takes_it():
    def walk(variables, x, key):
        def loss(kernel, x, key):
            return convolve({"kernel": kernel, "same": None}, x, key)[0]

        def down(number, kernel):
            gradient = side_by_side(jax.grad(loss))
            return kernel - 0.01 * gradient(kernel, x, jax.random.fold_in(key, number))

        return jax.lax.fori_loop(0, 3, down, variables["kernel"])

    args = arguments(3)[:3]
    found = jax.jit(jax.vmap(walk, AXES[:3]))(*args)
    for worker in range(3):
        variables = {"kernel": args[0]["kernel"][worker], "same": args[0]["same"]}
        wanted = walk(variables, args[1][worker], args[2][worker])
        np.testing.assert_allclose(found[worker], wanted, rtol=1e-4, atol=1e-4)
