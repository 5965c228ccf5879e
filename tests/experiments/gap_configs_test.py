import functools
import importlib

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments import gap_settings
from sparsetrain import masks

RESNET, TRANSFORMER = "gap_resnet50_imagenet", "gap_transformer_wmt14"
NAMES = [RESNET, TRANSFORMER]  # Tables, which the loop trains, are held to in tables_test.py.


def config_of(name):
    return importlib.import_module(f"configs.{name}").get_config()


@functools.cache
def shapes_of(name):
    job = gap_settings.build(config_of(name))
    return jax.eval_shape(job.model.init, jax.random.key(0), *job.inputs)


def test_both_are_pure():
    assert all(config_of(name) == config_of(name) for name in NAMES)


def test_resnet50_is_the_papers():
    config = config_of(RESNET)
    assert config.data.batch_size == 2048 and config.data.steps_per_epoch == 625
    tx = config.optimizer
    assert (tx.learning_rate, tx.momentum, tx.weight_decay) == (2.048, 0.875, 3.05e-5)
    assert tx.warmup_steps == 2 * 625
    assert (config.masks.phases, config.masks.epochs_per_phase) == (28, 30)
    assert config.masks.fine_tune_epochs == 150 and config.masks.phases % 4 == 0
    assert gap_settings.epochs(config) == (990, 990)
    config.masks.order, config.masks.phases = "parallel", 8
    assert gap_settings.epochs(config) == (390, 1110)


def test_transformer_is_the_papers():
    config = config_of(TRANSFORMER)
    assert (config.optimizer.learning_rate, config.optimizer.warmup_steps) == (8.46e-4, 4000)
    assert config.data.batch_size == 8 * 5120
    assert (config.masks.phases, config.masks.epochs_per_phase) == (30, 10)
    assert gap_settings.epochs(config) == (340, 340)


@pytest.mark.parametrize(
    ("name", "leaves", "dense"),
    # 53 convolutions and a classifier without the first and the last; 4 + 2 matrices a layer of the
    # encoder, 8 + 2 of the decoder.
    [
        (RESNET, [10, 13, 19, 10], {"conv/kernel", "output/kernel"}),
        (TRANSFORMER, [36, 30, 30], {"embedding/embedding"}),
    ],
)
def test_partitions_cover_and_keep_the_papers_density(name, leaves, dense):
    config = config_of(name)
    job, params = gap_settings.build(config), shapes_of(name)["params"]
    owners = job.partitions.assign(params)
    names = job.partitions.names
    assert [list(owners.values()).count(each) for each in names] == leaves
    assert set(masks.prunable(params)) - owners.keys() == dense
    # P-GaP needs an owner of every leaf, biases and norms too.
    everything = ["/".join(k.key for k in path) for path, _ in jax.tree.leaves_with_path(params)]
    assert all(len(job.partitions.owners(path)) == 1 for path in everything)
    state = masks.find(jax.eval_shape(job.optimizer.init, params))
    shapes = {path: mask.shape for path, mask in state.masks.items()}
    assert shapes.keys() == owners.keys()
    sizes = [jax.ShapeDtypeStruct(shape, bool).size for shape in shapes.values()]
    kept = job.optimizer.rule.counts(shapes)
    assert all(k == pytest.approx(0.1 * size, abs=0.5) for k, size in zip(kept, sizes, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_one_partition_is_dense_at_a_time_and_each_once_a_round(name):
    config = config_of(name)
    job, params = gap_settings.build(config), shapes_of(name)["params"]
    steps = config.masks.epochs_per_phase * config.data.steps_per_epoch
    owners = job.partitions.assign(params)
    plan = masks.phases(owners, job.partitions.names, config.masks.phases, steps)
    assert plan.labels == job.partitions.names * (config.masks.phases // len(job.partitions.names))
    assert plan.updates == config.masks.phases * steps
    prune, grow = plan.changes(list(owners))
    assert not grow[-1].any() and not prune[0].any() and (prune[1:] == grow[:-1]).all()


def like(values):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), values)


@pytest.mark.parametrize("name", NAMES)
def test_every_update_evaluates_abstractly(name):
    # The boundary of a phase and its optimizer's new start are branches of this one program.
    job, variables = gap_settings.build(config_of(name)), dict(shapes_of(name))
    state = jax.eval_shape(job.optimizer.init, variables["params"])

    def step(variables, state, *inputs):
        params, changes = variables["params"], [key for key in variables if key != "params"]

        def loss(params):
            held, rngs = variables | {"params": params}, {"dropout": jax.random.key(0)}
            logits, changed = job.model.apply(held, *inputs, train=True, mutable=changes, rngs=rngs)
            return jnp.mean(logits), changed

        grads, changed = jax.grad(loss, has_aux=True)(params)
        updates, state = job.optimizer.update(grads, state, params)
        return {"params": optax.apply_updates(params, updates), **changed}, state

    after = jax.eval_shape(step, variables, state, *job.inputs)
    assert like(after) == like((variables, state))


def test_parallel_workers_update_and_combine_abstractly():
    config = config_of(RESNET)
    config.masks.order, config.masks.phases = "parallel", 8
    job, params = gap_settings.build(config), shapes_of(RESNET)["params"]
    state = jax.eval_shape(job.optimizer.init, params)

    def step(params, state):
        updates, state = job.optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
        return masks.combine(params, state, job.partitions, gap_settings.AXIS)

    given = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((4, *leaf.shape), leaf.dtype), (params, state)
    )
    after = jax.eval_shape(jax.vmap(step, axis_name=gap_settings.AXIS), *given)
    assert like(after) == like(given)


def test_a_phases_learning_rate_rises_to_the_papers_and_falls_to_zero():
    config = config_of(RESNET)
    tx = gap_settings.optimizer(config.optimizer, 30 * 625)
    params, grads = {"w": jnp.zeros(1)}, {"w": jnp.ones(1)}
    state = tx.init(params)

    def rate(count):
        at = optax.tree_utils.tree_set(state, count=jnp.int32(count))
        return -float(tx.update(grads, at, params)[0]["w"][0])

    found = [rate(count) for count in (0, 625, 1250, 30 * 625)]
    assert found == pytest.approx([0, 1.024, 2.048, 0])


def test_the_report_counts_what_the_papers_tables_count():
    text = gap_settings.report(config_of(RESNET))
    assert "parameters: 25,557,032" in text
    assert "epochs: 990 by the clock, 990 of all workers" in text
    assert "8.18 GFLOPs dense" in text  # 8.2 in table 1.
