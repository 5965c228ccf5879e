import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import VGG16
from tests.models.start import start


@pytest.mark.parametrize(
    ("fields", "side", "parameters"),
    [({}, 224, 138_365_992), ({"classes": 10, "hidden": ()}, 32, 14_728_266)],
)
def test_parameters_are_those_published(fields, side, parameters):
    model = VGG16(**fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones([1, side, side, 3]))["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
    assert sum(sizes) == parameters
    kernels = [leaf for leaf in jax.tree.leaves(shapes) if leaf.ndim > 1]
    assert len(kernels) == 14 + len(model.hidden)
    if side == 224:
        # Configuration D of the paper, "138" million, has all but the norms.
        norms = 2 * sum(shapes[f"norm_{i}"]["scale"].size for i in range(13))
        assert parameters - norms == 138_357_544


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_small_one_runs(norm):
    model = VGG16(3, stages=(1, 1), width=4, hidden=(5,), norm=norm)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = start(model, images)
    assert ("batch_stats" in variables) == (norm == "batch")
    assert variables["params"]["hidden_0"]["kernel"].shape == (2 * 2 * 8, 5)
    logits = jax.jit(model.apply)(variables, images)
    assert logits.shape == (2, 3) and bool(jnp.isfinite(logits).all())
    if norm == "group":
        return
    rngs = {"dropout": jax.random.key(0)}
    _, changed = jax.jit(
        lambda: model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
    )()
    old, new = (v["batch_stats"]["norm_1"]["mean"] for v in (variables, changed))
    assert not np.array_equal(old, new)
