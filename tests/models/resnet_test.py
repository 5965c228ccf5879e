import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import ResNet


@pytest.mark.parametrize(("blocks", "parameters"), [(3, 269_722), (5, 464_154)])
def test_parameters_are_those_of_the_paper(blocks, parameters):
    model = ResNet(blocks=blocks)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones([1, 32, 32, 3]))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    kernels = [leaf for leaf in jax.tree.leaves(shapes["params"]) if leaf.ndim > 1]
    assert len(kernels) == 6 * blocks + 2


def test_a_block_without_its_branch_is_the_padded_identity():
    model = ResNet(blocks=1, width=4)
    images = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 3)))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    params = variables["params"]
    for number in range(3):
        scale = params[f"block_{number}"]["norm_1"]["scale"]
        params[f"block_{number}"]["norm_1"]["scale"] = jnp.zeros_like(scale)
    logits = model.apply(variables, images)
    x = jax.lax.conv_general_dilated(
        images,
        params["conv"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = np.maximum(np.asarray(x) / np.sqrt(1 + 1e-5), 0)[:, ::4, ::4].mean((1, 2))
    # 4 channels become 8, two zeros on each side, and 8 become 16, four on each side.
    x = np.pad(x, ((0, 0), (6, 6)))
    np.testing.assert_allclose(logits, x @ params["output"]["kernel"], rtol=1e-4, atol=1e-5)


def test_batch_statistics_move_in_training_only():
    model = ResNet(blocks=1, width=4)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = model.init(jax.random.key(1), images)
    logits, changed = model.apply(variables, images, train=True, mutable=["batch_stats"])
    old, new = (v["batch_stats"]["norm"]["mean"] for v in (variables, changed))
    assert not np.array_equal(old, new)
    assert not np.allclose(logits, model.apply(variables, images))


def test_group_norm_has_no_state():
    model = ResNet(blocks=1, width=4, norm="group")
    variables = model.init(jax.random.key(0), jnp.ones([1, 8, 8, 3]))
    assert set(variables) == {"params"}
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    alone = model.apply(variables, images[:1])
    np.testing.assert_allclose(model.apply(variables, images)[:1], alone, rtol=1e-4, atol=1e-5)


def test_an_unknown_norm_names_the_cure():
    with pytest.raises(ValueError, match=r"norm='layer'.*group"):
        ResNet(norm="layer").init(jax.random.key(0), jnp.ones([1, 8, 8, 3]))
