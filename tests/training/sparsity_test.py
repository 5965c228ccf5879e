"""What a config can ask of masks beyond their optimizer: masks by scores, and workers that put partitions together."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from sparsetrain import data, masks
from sparsetrain.training import build, progress, state, train_and_evaluate
from tests.training.tasks.synthetic import config

PARTS = tuple(
    (name, rf"(params/)?{layer}/.*") for name, layer in (("a", "hidden_0"), ("b", "output"))
)


def started(asked, workers=1):
    frozen = ml_collections.FrozenConfigDict(asked)
    loaded, who = build.load(frozen, workers), build.workers(workers)
    sections = (frozen.model, frozen.backward, frozen.optimizer, frozen.compress)
    model, _, functions = build.functions(*sections, loaded.task, frozen.masks, who)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:4]), loaded.train)
    return model, loaded.task, functions, batch


@pytest.mark.parametrize("distribution", ["global", "uniform"])
def test_snip_keeps_what_the_loss_would_miss_most(tmp_path, distribution):
    changed = config("images", **{"backward.rule": "dense", "masks.name": "snip", "epochs": 1})
    changed.masks.density, changed.masks.distribution = 0.25, distribution
    _, task, functions, batch = started(changed)
    result = train_and_evaluate(changed, tmp_path, progress.Silent())
    found = masks.find(result.state.opt_state).masks
    dense = config("images", **{"backward.rule": "dense"})
    model = started(dense)[0]
    first = model.init(jax.random.fold_in(jax.random.key(0), 0), *task.inputs(batch))
    gradient = jax.grad(functions.loss)(first, batch)
    scores = jax.tree.map(lambda w, g: np.abs(np.asarray(w * g)), first, gradient)["params"]
    layers = ("hidden_0", "output")
    every = np.concatenate([scores[layer]["kernel"].ravel() for layer in layers])
    for layer in layers:
        ranked = every if distribution == "global" else scores[layer]["kernel"].ravel()
        least = np.sort(ranked)[-round(0.25 * ranked.size)]
        mask = np.asarray(found[f"params/{layer}/kernel"])
        # A last bit of a score, compiled another way, may turn which of two is the last.
        assert np.mean(mask == (scores[layer]["kernel"] >= least)) > 0.99
        kernel = np.asarray(result.state.variables["params"][layer]["kernel"])
        assert not kernel[~mask].any() and kernel[mask].any()
    assert result.summary["density"] == pytest.approx(0.25, abs=0.01)


def parallel(**changes):
    found = config("images", **{"backward.rule": "dense", "workers": 2, "checkpoint_every": 1})
    with found.masks.ignore_type():
        found.masks.update(
            {
                "name": "grow_and_prune",
                "density": 0.5,
                "partitions": PARTS,
                "order": "parallel",
                "steps_per_phase": 3,
                "phases": 2,
                "fine_tune": (("learning_rate", 1e-4),),
            }
        )
    found.update_from_flattened_dict(changes)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_dpf_moves_dense_weights_by_gradients_at_sparse_ones_and_scores_those(tmp_path, workers):
    changed = config(
        "images", **{"backward.rule": "dense", "masks.name": "dpf", "masks.density": 0.25}
    )
    changed.steps, changed.epochs, changed.workers, changed.model.dropout = 3, 3, workers, 0.0
    changed.compress.name = "dense" if workers > 1 else "none"
    with changed.masks.ignore_type():
        changed.masks.update({"begin": 1, "end": 1, "every": 1})
    changed.optimizer = ml_collections.ConfigDict({"name": "sgd", "learning_rate": 0.5})
    result = train_and_evaluate(changed, tmp_path, progress.Silent())
    one = jax.tree.map(lambda leaf: leaf[0] if workers > 1 else leaf, result.state[1:3])
    shadows = masks.forward_params(*one)
    kernels = [each["params"]["hidden_0"]["kernel"] for each in (one[0], shadows)]
    assert np.mean(kernels[0] == 0) == 0 and np.mean(kernels[1] == 0) == pytest.approx(
        0.75, abs=0.05
    )
    _, task, functions, _ = started(changed, workers)
    loaded = build.load(ml_collections.FrozenConfigDict(changed), workers)
    scores = [float(functions.scores(each, loaded.test)["accuracy"]) for each in (shadows, one[0])]
    assert result.summary["test_accuracy"] == pytest.approx(scores[0]) != scores[1]
    if workers > 1:
        return
    # The same by hand.
    frozen = ml_collections.FrozenConfigDict(changed)
    tx = build.optimizer(frozen.optimizer, False, frozen.compress, frozen.masks)
    model = started(changed)[0]
    begin = state.create(model, tx, task.inputs(jax.tree.map(lambda x: x[:4], loaded.train)), 0)
    variables, held = begin.variables, begin.opt_state
    per_epoch = loaded.examples // changed.data.batch_size
    for number in range(3):
        epoch, row = divmod(number, per_epoch)
        order = data.epoch_permutation(state.data_key(begin.key), epoch, loaded.examples)
        size = changed.data.batch_size
        chosen = order[row * size : (row + 1) * size]
        batch = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], loaded.train)
        key = state.dropout_key(begin.key, number)
        gradient = jax.grad(functions.loss)(masks.forward_params(variables, held), batch, key)
        updates, held = tx.update(gradient, held, variables)
        variables = optax.apply_updates(variables, updates)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(one[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_masks_that_change_between_exchanges_are_refused():
    section = {"name": "iterative", "density": 0.1, "at": 40, "before": ((20, 0.5), (33, 0.3))}
    with pytest.raises(ValueError, match=r"masks.before\[1\]=33: .* multiple of compress.every=10"):
        build.check_rhythm(ml_collections.FrozenConfigDict(section), 10)
    # Where ADMM begins to pull, masks stay.
    section |= {"name": "admm", "begin": 33, "end": 40, "every": 10, "before": ((5, 20, 0.5),)}
    build.check_rhythm(ml_collections.FrozenConfigDict(section), 10)
    for name in ("admm", "gradual"):
        section |= {"name": name, "begin": 30, "end": 44}
        with pytest.raises(ValueError, match=r"masks.end=44: .* multiple of compress.every=10"):
            build.check_rhythm(ml_collections.FrozenConfigDict(section), 10)


def test_workers_of_p_gap_are_alike_behind_a_round_and_only_there(tmp_path):
    def kernels(steps):
        changed = parallel()
        changed.steps, changed.epochs = steps, 5
        result = train_and_evaluate(changed, tmp_path / str(steps), progress.Silent())
        held = result.state.variables["params"]
        return result, [np.asarray(held[layer]["kernel"]) for layer in ("hidden_0", "output")]

    for steps, alike in ((2, False), (3, True), (6, True)):
        result, found = kernels(steps)
        assert all((leaf[0] == leaf[1]).all() == alike for leaf in found), steps
        if alike:
            live = [(leaf[0] != 0).mean() for leaf in found]
            assert live == pytest.approx([0.5, 0.5], abs=0.03)
    assert result.summary["density"] == pytest.approx(0.5, abs=0.01)


def test_p_gap_refuses_an_exchange():
    frozen = ml_collections.FrozenConfigDict(parallel(**{"compress.name": "top_k"}))
    sections = (frozen.optimizer, False, frozen.compress, frozen.masks, "workers")
    with pytest.raises(ValueError, match=r"compress.name='top_k': workers of masks.order"):
        build.optimizer(*sections)


def test_fine_tuning_has_its_own_schedule():
    found = config("images")
    with found.masks.ignore_type():
        found.masks.update({"name": "one_shot", "at": 2, "fine_tune": (("learning_rate", 0.0),)})
    found.optimizer = ml_collections.ConfigDict({"name": "sgd", "learning_rate": 0.5})
    tx = build.optimizer(found.optimizer, False, None, found.masks)
    params = {"params": {"w": {"kernel": jnp.arange(1.0, 9.0).reshape(2, 4)}}}
    state, moved, update = tx.init(params), [], jax.jit(tx.update)
    for _ in range(5):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)
        after = optax.apply_updates(params, updates)
        moved.append(
            bool((after["params"]["w"]["kernel"] != params["params"]["w"]["kernel"]).any())
        )
        params = after
    assert moved[0] and not any(moved[-2:])
