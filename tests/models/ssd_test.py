import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import SSD300, boxes
from tests.models.start import start


def norm(width):
    return 2 * width


def basic(inputs, width):
    shortcut = inputs * width + norm(width) if inputs != width else 0
    return 9 * inputs * width + 9 * width * width + 2 * norm(width) + shortcut


def bottleneck(inputs, width):
    outputs = 4 * width
    shortcut = inputs * outputs + norm(outputs) if inputs != outputs else 0
    convolutions = inputs * width + 9 * width * width + width * outputs
    return convolutions + 2 * norm(width) + norm(outputs) + shortcut


@pytest.mark.parametrize(
    ("backbone", "block", "parameters"),
    [("resnet34", basic, 19_975_222), ("resnet50", bottleneck, 22_894_902)],
)
def test_parameters_are_those_of_the_reference(backbone, block, parameters):
    model = SSD300(backbone=backbone)
    images = jnp.ones([1, 300, 300, 3])
    outputs, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert [x.shape for x in outputs] == [(1, 8732, 4), (1, 8732, 81)]
    times = 1 if block is basic else 4
    wanted, inputs = 3 * 7 * 7 * 64 + norm(64), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6)):
        for _ in range(blocks):
            wanted += block(inputs, width)
            inputs = times * width
    channels = [inputs, 512, 512, 256, 256, 256]
    for number, inner in enumerate((256, 256, 128, 128, 128)):
        before, after = channels[number : number + 2]
        wanted += before * inner + 9 * inner * after + norm(inner) + norm(after)
    for width, count in zip(channels, (4, 6, 6, 6, 4, 4), strict=True):
        wanted += count * (4 + 81) * (9 * width + 1)
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == wanted == parameters


def test_outputs_stand_in_the_order_of_the_default_boxes():
    model = SSD300(3, stages=(1, 1, 1), width=4, extras=(2, 1), boxes=(4, 4, 2), norm="group")
    images = jax.random.normal(jax.random.key(0), (1, 48, 48, 3))
    variables = start(model, images)
    # Only the second kind of box of the first map speaks, and says what its 6 x 6 cells see.
    silent = jax.tree.map(jnp.zeros_like, variables["params"])
    kernel = variables["params"]["offsets_0"]["kernel"]
    silent["offsets_0"]["bias"] = silent["offsets_0"]["bias"].at[4:8].set(jnp.arange(1.0, 5))
    offsets, logits = jax.jit(model.apply)({"params": silent}, images)
    defaults = boxes.default_boxes((6, 3, 1), (8, 16, 48), (10, 20, 30, 40), ((2,), (2,), ()), 48)
    assert offsets.shape[1:] == defaults.shape == (6 * 6 * 4 + 3 * 3 * 4 + 2, 4)
    assert logits.shape == (1, len(defaults), 3) and kernel.shape[-1] == 16
    said = np.flatnonzero(offsets[0].any(-1))
    assert said.tolist() == list(range(1, 144, 4))
    np.testing.assert_allclose(defaults[said][:, 2:], np.sqrt(10 * 20) / 48, rtol=1e-6)
    assert offsets[0, 1].tolist() == [1, 2, 3, 4]


def test_bad_fields_name_the_cure():
    images = jnp.ones([1, 32, 32, 3])
    with pytest.raises(ValueError, match=r"backbone='vgg'.*resnet34"):
        SSD300(backbone="vgg").init(jax.random.key(0), images)
    with pytest.raises(ValueError, match=r"boxes=.*2 maps"):
        SSD300(extras=(2,)).init(jax.random.key(0), images)
