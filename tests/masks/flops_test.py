import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from sparsetrain import masks
from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.models import ResNet, ResNet50


def shaped(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def of_model(model, inputs):
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    others = {name: values for name, values in variables.items() if name != "params"}
    return masks.flops(
        lambda params, others, x: model.apply({"params": params, **others}, x),
        variables["params"],
        others,
        inputs,
    ), {path: leaf.shape for path, leaf in leaves_by_path(variables["params"]).items()}


@pytest.fixture(scope="module")
def resnet_50():
    found, shapes = of_model(ResNet50(), shaped(1, 224, 224, 3))
    return found, {path: shape for path, shape in shapes.items() if len(shape) > 1}


def test_resnet_50_dense_is_the_figure_of_the_papers(resnet_50):
    found, kernels = resnet_50
    assert found.by_leaf.keys() == kernels.keys() and len(kernels) == 54 and found.other == 0
    assert found.dense == 8_178_368_512  # GaP's 8.2.
    assert found.by_leaf["conv/kernel"] == 2 * 112 * 112 * 64 * 7 * 7 * 3
    assert found.by_leaf["output/kernel"] == 2 * 2048 * 1000


@pytest.mark.parametrize(
    ("density", "first_and_last_dense", "first_dense", "all_sparse"),
    [(0.2, 1.828, 1.824, 1.636), (0.1, 1.034, 1.030, 0.818)],
)
def test_resnet_50_uniform(resnet_50, density, first_and_last_dense, first_dense, all_sparse):
    # GaP's table says 1.7 and .8 and that the first convolution (.236 alone) and the output stay
    # dense. Of an 8.2 GFLOPs network that leaves 1.83 and 1.03: its .8 is that of a network which is
    # sparse throughout, and 1.7 lies between the two.
    found, kernels = resnet_50
    everywhere = dict.fromkeys(kernels, density)
    for dense, expected in (
        (("conv/kernel", "output/kernel"), first_and_last_dense),
        (("conv/kernel",), first_dense),
        ((), all_sparse),
    ):
        sparse = found.sparse({path: d for path, d in everywhere.items() if path not in dense})
        assert round(sparse / 1e9, 3) == expected


@pytest.mark.parametrize(("density", "published"), [(0.2, 3.4), (0.1, 2.0)])
def test_resnet_50_erk_is_the_figure_of_the_papers(resnet_50, density, published):
    found, kernels = resnet_50
    assert round(found.sparse(masks.erk(kernels, density)) / 1e9, 1) == published


def test_resnet_20():
    found, _ = of_model(ResNet(norm="group"), shaped(1, 32, 32, 3))
    assert round(found.dense / 1e6, 1) == 81.1  # 40.55 million multiply-adds.
    again, _ = of_model(ResNet(norm="group"), shaped(8, 32, 32, 3))
    assert again.dense == 8 * found.dense


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Embed(50, 8, name="embed")(x)
        x = nn.MultiHeadDotProductAttention(2, name="attend")(x)
        return nn.remat(nn.Dense)(3, name="output")(x)


def test_attention_has_products_without_a_weight():
    found, _ = of_model(Attention(), shaped(2, 5, dtype=jnp.int32))
    assert found.other == 2 * (2 * 5 * 5 * 8) * 2  # Scores and their sum of values, 2 sequences.
    assert found.by_leaf["output/kernel"] == 2 * 2 * 5 * 8 * 3
    assert found.by_leaf["attend/query/kernel"] == 2 * 2 * 5 * 8 * 8
    assert "embed/embedding" not in found.by_leaf


def test_a_scan_counts_every_turn_and_concatenated_kernels_share():
    model = nn.RNN(nn.OptimizedLSTMCell(6))
    found, kernels = of_model(model, shaped(2, 7, 4))
    assert found.dense == 7 * 2 * 2 * 4 * (4 + 6) * 6 and found.other == 0
    for path, count in found.by_leaf.items():
        assert count == 7 * 2 * 2 * kernels[path][0] * 6
    assert len(found.by_leaf) == 8


def test_grouped_and_transposed_convolutions():
    grouped, _ = of_model(nn.Conv(8, (3, 3), feature_group_count=4), shaped(1, 5, 5, 4))
    assert grouped.dense == 2 * 25 * 8 * 9
    up, _ = of_model(nn.ConvTranspose(8, (2, 2), (2, 2)), shaped(1, 5, 5, 4))
    assert up.dense == 2 * 25 * 4 * 8 * 4  # Each input meets each tap once.


def test_a_weight_is_followed_through_what_is_done_to_it():
    x, w = shaped(3, 4), {"w": shaped(5, 4), "scale": shaped(5)}
    for through in (
        lambda p: p["w"].astype(jnp.bfloat16).T,
        lambda p: (p["w"] - p["w"].mean()).T * 2,
        lambda p: jnp.where(jnp.arange(4) > 1, p["w"], 0).reshape(5, 2, 2).reshape(5, 4).T,
        lambda p: jax.jit(lambda v: v)(p["w"]).T,
        lambda p: (p["w"] * p["scale"][:, None]).T,
        lambda p: lax.cond(True, lambda v: v, lambda v: 2 * v, p["w"]).T,
    ):
        found = masks.flops(lambda p, x, through=through: x @ through(p), w, x)
        assert found == ({"w": 2 * 3 * 4 * 5}, 0)
    one_of_two = masks.flops(
        lambda p, x: lax.cond(x[0, 0] > 0, lambda: x @ p["w"].T, lambda: x @ jnp.ones((4, 5))), w, x
    )
    assert one_of_two.dense == 2 * 3 * 4 * 5
    # Low-rank factors multiply one another and give no leaf's product.
    assert masks.flops(lambda p, x: p["w"] @ p["w"].T, w, x).by_leaf == {}


def test_loops_of_unknown_length_are_refused():
    def loop(p, x):
        return lax.while_loop(lambda v: v.sum() < 9, lambda v: v @ p["w"], x)

    with pytest.raises(ValueError, match="products inside 'while' cannot be counted"):
        masks.flops(loop, {"w": shaped(4, 4)}, shaped(3, 4))
    without = masks.flops(
        lambda p, x: lax.while_loop(lambda v: v.sum() < 9, jnp.tanh, x) @ p["w"],
        {"w": shaped(4, 4)},
        shaped(3, 4),
    )
    assert without.dense == 2 * 3 * 4 * 4


def test_nnx():
    model = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model)
    found = masks.flops(lambda p, x: nnx.merge(graph, p)(x), params, jnp.ones((3, 4)))
    assert found.dense == 2 * 3 * 4 * 5
    assert set(found.by_leaf) == {"kernel"}
