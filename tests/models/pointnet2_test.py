import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.models import PointNet2, pointnet2
from tests.models.start import start

SMALL = PointNet2(
    parts=3,
    categories=2,
    levels=((8, ((0.8, 4, (5,)), (1.5, 6, (4, 6)))),),
    last=(7,),
    back=((6,), (5,)),
    head=4,
    norm="batch",
)


def shared(inputs, *widths):
    """Parameters of dense layers with norms."""
    total = 0
    for width in widths:
        total, inputs = total + inputs * width + width + 2 * width, width
    return total


@pytest.mark.parametrize(
    ("fields", "down", "up", "parameters"),
    [
        (
            {},
            [(6, 64, 64, 128), (131, 128, 128, 256), (259, 256, 512, 1024)],
            [(1280, 256, 256), (384, 256, 128), (150, 128, 128, 128)],
            1_411_250,
        ),
        (
            {
                "levels": pointnet2.MULTI_SCALE,
                "back": ((256, 256), (256, 128), (128, 128)),
            },
            [
                *[(6, 32, 32, 64), (6, 64, 64, 128), (6, 64, 96, 128)],
                *[(323, 128, 128, 256), (323, 128, 196, 256), (515, 256, 512, 1024)],
            ],
            [(1536, 256, 256), (576, 256, 128), (150, 128, 128)],
            1_740_958,
        ),
    ],
)
def test_parameters_are_those_of_the_reference(fields, down, up, parameters):
    model, cloud = PointNet2(**fields), jnp.zeros([2, 2048, 3])
    args = (jax.random.key(0), cloud, jnp.zeros([2], int))
    logits, variables = jax.eval_shape(model.init_with_output, *args)
    assert logits.shape == (2, 2048, 50)
    wanted = sum(shared(*widths) for widths in (*down, *up, (128, 128))) + 129 * 50
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == wanted == parameters


def test_the_order_of_points_does_not_matter():
    points = jax.random.normal(jax.random.key(0), (2, 16, 3))
    category = jnp.array([0, 1])
    # Balls take their first points, which is an order: here each has room for all.
    model = SMALL.clone(levels=((8, ((1.0, 16, (5,)),)),))
    variables = start(model, points, category)
    apply = jax.jit(model.apply)
    logits = apply(variables, points, category)
    # The first point stays: the farthest ones start there.
    order = np.r_[0, 1 + np.random.RandomState(0).permutation(15)]
    np.testing.assert_allclose(
        apply(variables, points[:, order], category), logits[:, order], rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(apply(variables, points, 1 - category), logits, atol=1e-5)


def test_two_scales_stand_side_by_side():
    points = jax.random.normal(jax.random.key(0), (2, 16, 4))
    variables = start(SMALL, points, jnp.array([0, 1]))
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes["down_0_0"]["dense_0"]["kernel"] == (3 + 4, 5)
    assert shapes["down_0_1"]["dense_1"]["kernel"] == (4, 6)
    assert shapes["down_1"]["dense_0"]["kernel"] == (3 + 5 + 6, 7)
    assert shapes["up_1"]["dense_0"]["kernel"] == (5 + 6 + 7, 6)
    assert shapes["up_0"]["dense_0"]["kernel"] == (2 + 3 + 4 + 6, 5)


def test_bad_arguments_name_the_cure():
    points = jnp.zeros([1, 16, 3])
    with pytest.raises(ValueError, match=r"categories=2: .*takes a category"):
        SMALL.init(jax.random.key(0), points)
    with pytest.raises(ValueError, match=r"back=.*1 levels"):
        SMALL.clone(back=((5,),)).init(jax.random.key(0), points, jnp.zeros(1, int))
