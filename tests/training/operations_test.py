import jax
import jax.numpy as jnp
import ml_collections
import pytest
from flax import linen as nn

from sparsetrain import backward, models
from sparsetrain.training import build, networks
from sparsetrain.training.operations import backward_flops
from tests.training.tasks import synthetic

B, T, EMBEDDING, HIDDEN, TAGS = 2, 7, 5, 4, 3
WORDS = jax.ShapeDtypeStruct((B, T), jnp.int32)
TAGGER = models.Tagger(symbols=9, tags=TAGS, embedding=EMBEDDING, hidden=HIDDEN, layers=1)
# Four gates in each of two directions; both products of the backward pass.
GATES = 2 * 2 * 2 * B * T * 4 * HIDDEN * (EMBEDDING + HIDDEN)
OUTPUT = 2 * 2 * B * T * 2 * HIDDEN * TAGS


def test_a_recurrent_layer_counts_every_step_in_time() -> None:
    assert backward_flops(TAGGER, (WORDS,))["backward_flops"] == GATES + OUTPUT
    rules = {r"(forward|backward)_0/.*/kernel": backward.top_k(0.5)}
    sparse = backward.linen.sparsify(TAGGER, rules)
    # Magnitudes and a heap of two, for each of eight products a direction.
    selection = 2 * 8 * B * T * HIDDEN * (1 + 2)
    found = backward_flops(sparse, (WORDS,))
    assert found["dense_backward_flops"] == GATES + OUTPUT
    assert found["backward_flops"] == GATES // 2 + OUTPUT + selection


def test_a_shared_layer_counts_every_call() -> None:
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            layer = nn.Dense(8, name="shared")
            return layer(layer(x))

    sparse = backward.linen.sparsify(Twice(), {"shared/kernel": backward.top_k(0.25)}, rows=8)
    selection = 2 * 4 * 8 * (1 + 2)
    assert backward_flops(sparse, (jnp.zeros([4, 8]),)) == {
        "dense_backward_flops": 2 * 2 * (2 * 4 * 8 * 8),
        "backward_flops": 2 * 2 * (2 * 4 * 2 * 8) + selection,
    }


def test_rules_that_take_turns_count_by_halves() -> None:
    mlp = models.MLP(hidden=(20, 20), classes=10)
    rules = {f"hidden_{n}/kernel": backward.top_k(0.1) for n in (0, 1)}
    parts = [backward.linen.sparsify(mlp, {path: rule}) for path, rule in rules.items()]
    whole = backward.linen.sparsify(mlp, rules)
    inputs = (jnp.zeros([4, 30]),)
    needed = [backward_flops(m, inputs)["backward_flops"] for m in (*parts, whole)]
    turns = networks.Alternating(whole, tuple(parts))
    assert backward_flops(turns, inputs)["backward_flops"] == round(sum(needed[:2]) / 2) > needed[2]


@pytest.mark.parametrize("task", sorted(synthetic.SMALL))
def test_the_networks_of_all_tasks_can_be_counted(task: str) -> None:
    config = ml_collections.FrozenConfigDict(synthetic.config(task))
    data = build.load(config, 1)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:2]), data.train)
    model = networks.model(config.model, build.rules(config.backward), data.task, False)
    found = backward_flops(model, data.task.inputs(batch))
    assert found["dense_backward_flops"] > 0 and found["backward_flops"] > 0


def test_a_loop_of_unknown_length_has_no_count() -> None:
    class Loop(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            kernel = self.param("kernel", nn.initializers.ones, (4, 4))
            return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ kernel, x)

    assert backward_flops(Loop(), (jnp.ones([4]),)) == {}
