import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import backward
from sparsetrain.models import MLP, LeNet5
from sparsetrain.training import state, step
from sparsetrain.training.tasks.images import pixels
from sparsetrain.training.workers import Workers

RULES = {r"hidden.*/kernel": backward.memorized_top_k(density=0.25, decay=0.8)}
OPTIMIZER = backward.carry_memory(optax.adam(1e-2))
PLAIN = MLP(hidden=(8, 8), classes=3, dropout=0.2)
MODEL = backward.linen.sparsify(PLAIN, RULES)
IMAGES = np.random.default_rng(0).integers(0, 256, (21, 2, 3, 1), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, 21).astype(np.int32)
ORDER = np.random.default_rng(2).permutation(20).astype(np.int32).reshape(5, 4)


@pytest.fixture(scope="module")
def functions():
    return step.make(MODEL, OPTIMIZER)


def start():
    return state.create(MODEL, OPTIMIZER, pixels(IMAGES[:4]), seed=3)


def train(functions, run, *calls):
    for steps in calls:
        run, loss = functions.train(run, (IMAGES, LABELS), ORDER, np.int32(steps))
    return run, loss


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(
        jax.tree.leaves(a._replace(key=None)), jax.tree.leaves(b._replace(key=None)), strict=True
    ):
        np.testing.assert_array_equal(x, y)


def test_training_equals_a_plain_optax_loop(functions):
    run = start()
    variables, opt_state, losses = run.variables, run.opt_state, []
    for number in range(7):
        batch = ORDER[number % 5]

        def loss(variables, batch=batch, number=number):
            logits = MODEL.apply(
                variables,
                IMAGES[batch].astype(np.float32) / 255,
                train=True,
                rngs={"dropout": state.dropout_key(run.key, number)},
            )
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), LABELS[batch]])

        value, grads = jax.value_and_grad(loss)(variables)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, variables)
        variables = optax.apply_updates(variables, updates)
        losses.append(float(value))
    end, mean = train(functions, start(), 7)
    assert int(end.step) == 7
    assert float(mean) == pytest.approx(np.mean(losses), rel=1e-5)
    for x, y in zip(jax.tree.leaves(end.variables), jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)
    assert float(abs(end.variables["memory"]["hidden_1"]["kernel"]).max()) > 0


def test_the_split_into_calls_does_not_change_a_bit(functions):
    whole, _ = train(functions, start(), 9)
    parts, _ = train(functions, start(), 0, 1, 5, 3)
    assert_identical(whole, parts)


def test_zero_steps_change_nothing(functions):
    same, loss = train(functions, start(), 0)
    assert_identical(same, start())
    assert float(loss) == 0.0


def test_steps_one_by_one_are_those_of_the_loop(functions):
    alone = functions._replace(train=functions.one_by_one)
    run, wanted = (train(each, start(), 0, 5) for each in (alone, functions))
    for a, b in zip(jax.tree.leaves(run), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    loops = [
        each.lower(start(), (IMAGES, LABELS), ORDER, np.int32(1)).as_text().count("stablehlo.while")
        for each in (functions.train, functions.one_by_one.args[0])
    ]
    assert loops[1] < loops[0]


def test_simulated_workers_keep_their_convolutions_apart():
    """One convolution with a group a worker would take several times as long, see benchmarks/workers.py."""
    model, images = LeNet5(channels=(2, 3), hidden=4), IMAGES.repeat(14, 1).repeat(14, 2)
    workers = Workers(3)
    begin = state.create(model, OPTIMIZER, pixels(images[:2]), seed=0)
    held = workers.stacked((begin.variables, begin.opt_state))
    begin = begin._replace(variables=held[0], opt_state=held[1])
    many = step.make(model, OPTIMIZER, workers)
    order = np.arange(18, dtype=np.int32).reshape(3, 6) % len(IMAGES)
    for program in (many.train, many.one_by_one.args[0]):
        text = program.lower(begin, (images, LABELS), order, np.int32(1)).as_text()
        groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", text)
        assert groups and set(groups) == {"1"}


def test_one_program_serves_every_number_of_steps(functions):
    run, _ = train(functions, start(), 1)
    compiled = functions.train._cache_size()
    train(functions, run, 2, 3, 0)
    assert functions.train._cache_size() == compiled == 1


def test_the_state_is_donated(functions):
    run = start()
    kernel = run.variables["params"]["hidden_0"]["kernel"]
    train(functions, run, 1)
    assert kernel.is_deleted()


@pytest.mark.parametrize("rows", [4, 7, 21, 1000])
def test_accuracy_counts_every_example_once(monkeypatch, rows):
    monkeypatch.setattr(step, "EVALUATION_ROWS", rows)
    variables = start().variables
    predicted = PLAIN.apply({"params": variables["params"]}, pixels(IMAGES)).argmax(-1)
    expected = np.mean(np.asarray(predicted) == LABELS)
    assert 0 < expected < 1
    scores = step.make(MODEL, OPTIMIZER).scores(variables, (IMAGES, LABELS))
    assert float(scores["accuracy"]) == pytest.approx(expected)


def test_the_angle_of_a_row_sparse_model_is_that_of_the_dense_form():
    rules = {r"hidden.*/kernel": backward.unified_top_k(density=0.25)}
    angles = []
    for row_sparse in (False, True):
        model = backward.linen.sparsify(MLP(hidden=(8, 8)), rules, row_sparse=row_sparse)
        adam = backward.row_sparse.adam(1e-2) if row_sparse else optax.adam(1e-2)
        optimizer = backward.carry_memory(adam)
        variables = state.create(model, optimizer, pixels(IMAGES[:4]), seed=0).variables
        found = step.make(model, optimizer).angles(
            variables, (IMAGES, LABELS), 4, ("hidden_0/kernel",)
        )
        angles.append([float(angle) for angle in found.values()])
    assert min(angles[0]) > 0.01
    assert angles[1] == pytest.approx(angles[0], rel=1e-4)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(6, name="hidden_0")(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(3)(x)


def test_batch_statistics_are_kept_up_to_date():
    model = backward.linen.sparsify(Normalised(), RULES, rows=4)

    class WithTrain:
        def init(self, key, inputs):
            return model.init(key, inputs, train=False)

        apply = staticmethod(model.apply)

    run = state.create(WithTrain(), OPTIMIZER, pixels(IMAGES[:4]), seed=3)
    before = jax.tree.map(np.asarray, run.variables["batch_stats"])
    first = pixels(jnp.asarray(IMAGES[ORDER[0]])).reshape(4, -1)
    hidden = first @ run.variables["params"]["hidden_0"]["kernel"]
    expected = 0.5 * before["BatchNorm_0"]["mean"] + 0.5 * hidden.mean(0)
    functions = step.make(WithTrain(), OPTIMIZER)
    run, _ = train(functions, run, 1)
    np.testing.assert_allclose(
        run.variables["batch_stats"]["BatchNorm_0"]["mean"], expected, rtol=1e-5
    )
    scores = functions.scores(run.variables, (IMAGES, LABELS))
    assert 0 <= float(scores["accuracy"]) <= 1
