import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sparsetrain import backward, models
from sparsetrain.analysis import FlopCount, Layer, backward_flops, layer_of, total_flops

KEY = jax.random.key(0)


def counted_products(kept: np.ndarray, inputs: int) -> int:
    """Oracle: walks over dx = g W^T and dW = x^T g, counts multiply-adds of kept entries."""
    rows, outputs = kept.shape
    multiply_adds = 0
    for r, _, o in itertools.product(range(rows), range(inputs), range(outputs)):
        if kept[r, o]:
            multiply_adds += 1  # dx[r, i] += g[r, o] W[i, o]
            multiply_adds += 1  # dW[i, o] += x[r, i] g[r, o]
    return 2 * multiply_adds


@pytest.mark.parametrize("kind", ["masked", "union", "unified"])
def test_products_equal_a_count_by_walking_over_them(kind):
    rows, inputs, outputs, kept = 3, 4, 12, 2
    rng = np.random.default_rng(0)
    mask = np.zeros((rows, outputs), bool)
    columns = rng.permutation(outputs)
    for row in range(rows):
        mine = columns[:kept] if kind == "unified" else columns[row * kept : (row + 1) * kept]
        mask[row, mine] = True
    union = np.broadcast_to(mask.any(axis=0), mask.shape)  # all rows work on the union's columns
    executed = {"masked": np.ones_like(mask), "union": union, "unified": mask}[kind]
    count = backward_flops(Layer("w", inputs, outputs, rows, kept, kind))
    assert count.dense == counted_products(np.ones_like(mask), inputs)
    assert count.needed == counted_products(mask, inputs)
    assert count.executed == counted_products(executed, inputs)


def test_the_dense_count_is_the_one_of_xla():
    rows, inputs, outputs = 8, 48, 40

    def products(g, w, x):
        return g @ w.T, x.T @ g

    shapes = [(rows, outputs), (inputs, outputs), (rows, inputs)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    cost = jax.jit(products).lower(*arguments).cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    assert cost is not None
    layer = Layer("w", inputs, outputs, rows, outputs, "dense")
    assert backward_flops(layer).dense == pytest.approx(cost["flops"], rel=0.01)


def test_dense_costs_nothing_beside_its_products():
    count = backward_flops(Layer("w", 5, 7, 3, 7, "dense", memory=7))
    assert count == FlopCount(420, 420, 420, 0, 0)
    assert count.reduction == 1.0


def test_a_layer_that_reads_the_data_has_one_product():
    both = backward_flops(Layer("w", 784, 500, 32, 20, "unified"))
    one = backward_flops(Layer("w", 784, 500, 32, 20, "unified", input_gradient=False))
    assert (2 * one.dense, 2 * one.needed, 2 * one.executed) == both[:3]
    assert one.selection == both.selection


def test_selection_and_memory_are_itemised():
    per_row = Layer("w", 784, 500, 32, 20, "masked", memory=500)
    assert math.ceil(math.log2(21)) == 5
    assert backward_flops(per_row).selection == 32 * 500 * (1 + 5)
    assert backward_flops(per_row).memory == 2 * 32 * 500 + 5 * 500
    assert backward_flops(per_row._replace(memory=32 * 500)).memory == 3 * 32 * 500
    assert backward_flops(per_row._replace(memory=1)).memory == 1
    assert backward_flops(per_row._replace(memory=0)).memory == 0
    shared = backward_flops(per_row._replace(kind="unified"))
    assert shared.selection == 2 * 32 * 500 + 500 * 5


def test_a_masked_layer_is_honest_that_it_saves_nothing():
    count = backward_flops(Layer("w", 784, 500, 32, 20, "masked", memory=500))
    assert count.executed == count.dense
    assert count.needed * 25 == count.dense
    assert count.reduction < 1


def test_the_papers_ratio_of_products_at_extreme_density():
    # h = 5000, k = 5: a thousandth of the products; selection is what is left to pay.
    count = backward_flops(Layer("w", 5000, 5000, 32, 5, "unified", memory=5000))
    assert count.dense == 1000 * count.needed == 1000 * count.executed
    assert 62 < count.reduction < 1000


def test_total_is_the_sum():
    layers = [Layer("a", 3, 4, 2, 1, "unified", 4), Layer("b", 5, 6, 2, 6, "dense")]
    first, second = map(backward_flops, layers)
    assert total_flops(layers) == FlopCount(*(a + b for a, b in zip(first, second, strict=True)))
    assert total_flops([]) == FlopCount(0, 0, 0, 0, 0)
    assert total_flops([]).reduction == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sparse"}, "kind='sparse': choose one of"),
        ({"kept": 0}, "kept lie in"),
        ({"kept": 8}, "kept lie in"),
        ({"rows": 0}, "at least 1"),
        ({"kind": "dense"}, "keeps all 7 outputs, not 2"),
    ],
)
def test_layers_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        backward_flops(Layer("w", 5, 7, 3, 2, "masked")._replace(**change))


RULES: dict[str, tuple[backward.BackwardRule, int, int]] = {
    "masked": (backward.memorized_top_k(density=0.1, decay=0.5), 4, 40),
    "slot": (backward.memorized_top_k(density=0.1, decay=0.5, memory="slot"), 4, 8 * 40),
    "unified": (backward.unified_top_k(density=0.1, decay=0.5), 4, 40),
    "union": (backward.top_k(density=0.025), 1, 0),
    "random": (backward.random_k(density=0.2, key=0), 8, 1),
    "everything": (backward.top_k(density=1.0), 40, 0),
}
KINDS = {"slot": "masked", "random": "unified", "everything": "dense"}


@pytest.mark.parametrize("name", RULES)
def test_layer_of_reads_a_linen_layer(name):
    rule, kept, memory = RULES[name]
    model = backward.linen.sparsify(models.MLP(hidden=(40,)), {r"hidden_0/kernel": rule})
    hidden, output = map(layer_of, model.layers(KEY, jnp.zeros((8, 30))))
    kind = KINDS.get(name, name)
    assert hidden == Layer("hidden_0/kernel", 30, 40, 8, kept, kind, memory)
    assert output == Layer("output/kernel", 40, 10, 8, 10, "dense")


def test_kind_agrees_with_what_the_rule_executes():
    for rule, kept, _ in RULES.values():
        model = backward.linen.sparsify(models.MLP(hidden=(40,)), {r"hidden_0/kernel": rule})
        layer = layer_of(model.layers(KEY, jnp.zeros((8, 30)))[0])
        u = jax.random.normal(KEY, (8, 40))
        chosen = rule.select(u, rule.init((40,), 8), rows=8)
        columns = chosen.values.shape[1]
        count = backward_flops(layer)
        assert count.executed == 2 * 2 * 8 * 30 * columns
        assert count.needed == 2 * 2 * 30 * np.count_nonzero(chosen.values) == 4 * 8 * 30 * kept


def test_layer_of_a_convolution_sees_examples_or_positions():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(6, (3, 3), name="conv")(x)

    x = jnp.zeros((2, 5, 4, 3))
    per_example = backward.linen.sparsify(Net(), {".*": backward.top_k(density=0.01)})
    layer = layer_of(per_example.layers(KEY, x)[0])
    # Its union would be small, but a convolution's products stay dense.
    assert layer == Layer("conv/kernel", 27, 5 * 4 * 6, 2, 1, "masked")
    shared = backward.linen.sparsify(Net(), {".*": backward.unified_top_k(density=0.5, decay=0.1)})
    channels = layer_of(shared.layers(KEY, x)[0])
    assert channels == Layer("conv/kernel", 27, 6, 2 * 5 * 4, 3, "unified", 6)
    assert backward_flops(layer).dense == backward_flops(channels).dense == 4 * 2 * 20 * 6 * 27
