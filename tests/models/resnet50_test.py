import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import ResNet50


@pytest.mark.parametrize(
    ("stages", "parameters"), [((3, 4, 6, 3), 25_557_032), ((3, 4, 23, 3), 44_549_160)]
)
def test_parameters_are_those_of_the_paper(stages, parameters):
    model = ResNet50(stages=stages)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones([1, 224, 224, 3]))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_small_one_runs(norm):
    model = ResNet50(stages=(1,), classes=3, width=4, norm=norm)
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    assert ("batch_stats" in variables) == (norm == "batch")
    logits = jax.jit(model.apply)(variables, images)
    assert logits.shape == (2, 3) and bool(jnp.isfinite(logits).all())


def test_a_block_without_its_branch_is_its_shortcut():
    model = ResNet50(stages=(2,), classes=3, width=4, norm="group")
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    scale = variables["params"]["stage_0_block_1"]["norm_2"]["scale"]
    variables["params"]["stage_0_block_1"]["norm_2"]["scale"] = jnp.zeros_like(scale)
    shorter = ResNet50(stages=(1,), classes=3, width=4, norm="group")
    fewer = {k: v for k, v in variables["params"].items() if k != "stage_0_block_1"}
    np.testing.assert_allclose(
        model.apply(variables, images), shorter.apply({"params": fewer}, images), rtol=1e-5
    )
