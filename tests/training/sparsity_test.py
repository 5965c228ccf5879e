"""What a config can ask of masks beyond their optimizer: masks by scores, and workers that put partitions together."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from sparsetrain import masks
from sparsetrain.training import build, progress, train_and_evaluate
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


def test_snip_keeps_what_the_loss_would_miss_most(tmp_path):
    changed = config("images", **{"backward.rule": "dense", "masks.name": "snip", "epochs": 1})
    changed.masks.density = 0.25
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
    least = np.sort(every)[-round(0.25 * every.size)]
    for layer in layers:
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
