import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sparsetrain import backward, models
from sparsetrain.analysis import angle, angle_per_leaf, full_data_gradient


def numpy_angle(a, b) -> float:
    """Oracle: arccos of the cosine, in float64; good to about 1e-8 away from 0 and pi."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(np.arccos(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1)))


def two_trees(seed: int = 0):
    rng = np.random.default_rng(seed)

    def tree():
        return {
            "hidden": {"kernel": rng.normal(size=(7, 5)), "bias": 10 * rng.normal(size=5)},
            "output": [rng.normal(size=(5, 2, 3))],
        }

    return jax.tree.map(jnp.float32, tree()), jax.tree.map(jnp.float32, tree())


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("seed", range(5))
def test_angle_of_trees_equals_the_one_of_their_long_vectors(seed):
    a, b = two_trees(seed)
    expected = numpy_angle(flat(a), flat(b))
    np.testing.assert_allclose(angle(a, b), expected, rtol=2e-6)
    np.testing.assert_allclose(jax.jit(angle)(a, b), expected, rtol=2e-6)


def test_angle_per_leaf_equals_the_oracle_of_each_leaf():
    a, b = two_trees()
    found = angle_per_leaf(a, b)
    assert list(found) == ["hidden/bias", "hidden/kernel", "output/0"]
    for (path, value), x, y in zip(
        found.items(), jax.tree.leaves(a), jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_allclose(value, numpy_angle(x, y), rtol=2e-6, err_msg=path)


@pytest.mark.parametrize("small", [1e-2, 1e-4, 1e-6])
def test_small_and_nearly_flat_angles_are_not_rounded_away(small):
    # In float32 the cosine of 1e-4 is exactly 1.
    a = jnp.array([1.0, 0.0], jnp.float32)
    b = jnp.array([np.cos(small), np.sin(small)], jnp.float32)
    np.testing.assert_allclose(angle(a, b), small, rtol=1e-3)
    np.testing.assert_allclose(np.pi - float(angle(a, -b)), small, atol=5e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_size_of_either_gradient_does_not_matter(scale):
    a, b = two_trees()
    expected = angle(a, b)
    scaled = jax.tree.map(lambda x: x * jnp.float32(scale), a)
    np.testing.assert_allclose(angle(scaled, b), expected, rtol=1e-5)
    np.testing.assert_allclose(angle(b, scaled), expected, rtol=1e-5)


def test_same_direction_is_zero_opposite_is_pi():
    a, _ = two_trees()
    assert float(angle(a, jax.tree.map(lambda x: 3 * x, a))) < 1e-6
    np.testing.assert_allclose(angle(a, jax.tree.map(lambda x: -3 * x, a)), np.pi, rtol=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_gives_nan(bad):
    good, broken = jnp.ones(3), jnp.full(3, bad).at[1].set(bad * 1.0)
    assert np.isnan(angle(good, broken))
    assert np.isnan(angle(broken, good))
    assert np.isnan(angle(broken, broken))
    assert np.isnan(angle(good, good.at[1].set(bad))) == (bad != 0.0)


def test_one_zero_layer_is_nan_by_itself_and_no_harm_to_the_whole():
    a = {"dead": jnp.zeros(3), "live": jnp.array([1.0, 0.0])}
    b = {"dead": jnp.ones(3), "live": jnp.array([1.0, 0.0])}
    per_leaf = angle_per_leaf(a, b)
    assert np.isnan(per_leaf["dead"])
    assert float(per_leaf["live"]) == 0.0
    np.testing.assert_allclose(angle(a, b), np.pi / 3, rtol=1e-6)  # cos = 1 / 2


def test_bfloat16_is_summed_in_float32():
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=50_000) + 1, jnp.bfloat16)
    b = jnp.asarray(rng.normal(size=50_000) + 1, jnp.bfloat16)
    found = angle(a, b)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, numpy_angle(a.astype(np.float32), b.astype(np.float32)), rtol=1e-5
    )


def test_a_large_layer_keeps_its_digits():
    rng = np.random.default_rng(0)
    a = rng.random(3_000_000, np.float32)
    b = (a + np.float32(1e-3) * rng.standard_normal(a.size, np.float32)).astype(np.float32)
    np.testing.assert_allclose(angle(a, b), numpy_angle(a, b), rtol=1e-4)


def test_empty_arrays_are_left_out_and_no_entry_at_all_is_an_error():
    a = {"empty": jnp.zeros((0, 3)), "w": jnp.ones(2)}
    assert list(angle_per_leaf(a, a)) == ["w"]
    assert float(angle(a, a)) == 0.0
    with pytest.raises(ValueError, match="at least one"):
        angle({}, {})


def test_trees_that_do_not_correspond_are_refused():
    with pytest.raises(ValueError, match=r"\['a'\].*\['b'\]"):
        angle({"a": jnp.ones(2)}, {"b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"\(2,\) at 'a'.*\(3,\)"):
        angle_per_leaf({"a": jnp.ones(2)}, {"a": jnp.ones(3)})


def squared_error(params, x, y):
    return jnp.mean(jnp.square(x @ params["w"] + params["b"] - y))


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11, 23, 50])
def test_full_data_gradient_does_not_depend_on_the_chunks(batch_size):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(23, 3)), rng.normal(size=23)
    w, b = rng.normal(size=3), rng.normal()
    params = {"w": jnp.float32(w), "b": jnp.float32(b)}
    data = (jnp.float32(x), jnp.float32(y))
    found = full_data_gradient(squared_error, params, data, batch_size)
    error = 2 * (x @ w + b - y) / 23
    np.testing.assert_allclose(found["w"], x.T @ error, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found["b"], error.sum(), rtol=2e-5, atol=1e-6)


def test_full_data_gradient_accumulates_bfloat16_in_float32():
    # 4096 chunks of gradient 1 / 4096: a bfloat16 sum would stop at 2^-4.
    x = jnp.ones((4096, 1), jnp.bfloat16)
    gradient = full_data_gradient(
        lambda w, x: jnp.mean(w * x), jnp.array(1.0, jnp.bfloat16), (x,), 1
    )
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, 1.0, rtol=1e-6)


def test_full_data_gradient_compiles_once_for_one_loss():
    traces = []

    def loss(w, x):
        traces.append(1)
        return jnp.mean(w * x)

    x = jnp.arange(8.0)
    first = full_data_gradient(loss, jnp.array(1.0), (x,), 4)
    count = len(traces)
    second = full_data_gradient(loss, jnp.array(2.0), (x,), 4)
    assert len(traces) == count
    assert float(first) == float(second) == 3.5


def test_full_data_gradient_refuses_data_it_cannot_cut():
    with pytest.raises(ValueError, match=r"\[2, 3\] examples"):
        full_data_gradient(squared_error, {}, (jnp.ones((3, 2)), jnp.ones(2)), 1)
    with pytest.raises(ValueError, match="no examples"):
        full_data_gradient(squared_error, {}, (), 1)
    with pytest.raises(ValueError, match="batch_size=0"):
        full_data_gradient(squared_error, {}, (jnp.ones((3, 2)), jnp.ones(3)), 0)


def teacher_data():
    x = jax.random.normal(jax.random.key(1), (96, 12))
    labels = jnp.argmax(x @ jax.random.normal(jax.random.key(2), (12, 4)), axis=1)
    return x, labels


def follow(rule, steps: int = 12, batch_size: int = 16, every: int = 4):
    """Trains a small MLP by a rule; every few steps the angles on the whole data set."""
    x, labels = teacher_data()
    model = backward.linen.sparsify(models.MLP(hidden=(20, 20), classes=4), {r"hidden.*": rule})

    def loss(variables, x, labels):
        scores = nn.log_softmax(model.apply(variables, x))
        return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], axis=1))

    def split_loss(trees, x, labels):
        return loss({"params": trees[0], **trees[1]}, x, labels)

    variables = model.init(jax.random.key(0), x[:batch_size])

    @jax.jit
    def step(variables, x, labels):
        gradients = jax.grad(loss)(variables, x, labels)
        moves = {"params": -0.1, "memory": 1.0}  # the memory's "gradient" is its increment
        return {
            name: jax.tree.map(
                lambda v, g, a=moves[name]: v + a * g, variables[name], gradients[name]
            )
            for name in variables
        }

    whole, layers = [], []
    for number in range(steps):
        start = batch_size * (number % (96 // batch_size))
        variables = step(
            variables, x[start : start + batch_size], labels[start : start + batch_size]
        )
        if (number + 1) % every == 0:
            params = variables["params"]
            memory = {"memory": variables["memory"]}
            sparse = full_data_gradient(split_loss, (params, memory), (x, labels), batch_size)[0]
            dense = full_data_gradient(split_loss, (params, {}), (x, labels), batch_size)[0]
            whole.append(float(angle(sparse, dense)))
            layers.append({k: float(v) for k, v in angle_per_leaf(sparse, dense).items()})
    return np.array(whole), layers


def test_the_angle_of_top_k_and_memorized_top_k_can_be_followed_in_training():
    plain, layers = follow(backward.top_k(density=0.1))
    remembered, _ = follow(backward.memorized_top_k(density=0.1, decay=0.8))
    for angles in (plain, remembered):
        assert angles.shape == (3,)
        assert np.all((angles > 0.01) & (angles < np.pi / 2))
    assert not np.allclose(plain, remembered)
    for found in layers:
        # The output layer is dense and sees no estimate from above; the layers below do.
        assert found["output/kernel"] < 1e-3
        assert found["hidden_1/kernel"] > 0.01
        assert found["hidden_0/kernel"] > 0.01


def test_the_angle_of_a_rule_that_keeps_all_is_zero_and_grows_as_fewer_are_kept():
    means = [
        follow(backward.top_k(density=density), steps=4)[0].mean() for density in (1.0, 0.5, 0.1)
    ]
    assert means[0] < 1e-3 < means[1] < means[2]
