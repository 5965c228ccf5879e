import inspect

import jax
import jax.numpy as jnp
import ml_collections
import optax
import pytest

from configs import digits
from sparsetrain import backward, compress, masks
from sparsetrain.models import MLP
from sparsetrain.training import build, step
from sparsetrain.training.tasks import Images

SGD = {"name": "sgd", "learning_rate": 1.0}


def section(**changes):
    config = digits.get_config().backward
    config.update(changes)
    return config


@pytest.mark.parametrize("name", sorted(backward.RULES))
def test_every_rule_is_built_from_the_same_section(name):
    rule = build.rule(name, section(density=0.25, decay=0.5))
    assert isinstance(rule, backward.BackwardRule)
    assert getattr(rule, "density", 0.25) == 0.25
    assert getattr(rule, "decay", 0.5) == 0.5


def test_rules_follow_the_section():
    table = build.rules(section(rule="memorized_top_k", density=0.1, decay=0.3, memory="slot"))
    assert table == {r".*hidden.*/kernel": backward.memorized_top_k(0.1, 0.3, memory="slot")}
    assert build.rules(section(rule="dense")) == {}


def test_overrides_come_first_and_change_only_what_they_name():
    overrides = (
        ("hidden_0/kernel", "top_k", (("density", 0.5),)),
        ("hidden_1/kernel", "dense", ()),
    )
    table = build.rules(section(density=0.1, decay=0.3, overrides=overrides))
    assert list(table.items()) == [
        ("hidden_0/kernel", backward.top_k(0.5)),
        ("hidden_1/kernel", backward.dense()),
        (r".*hidden.*/kernel", backward.memorized_top_k(0.1, 0.3)),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build.rule("topk", {}),
            r"backward.rule='topk' is unknown; choose one of dense, grouped_top_k, mem",
        ),
        (lambda: build.rule("top_k", {"density": 0}), r"density=0"),
        (
            lambda: build.optimizer(ml_collections.ConfigDict({"name": "adamw"}), row_sparse=True),
            r"optimizer.name='adamw' is unknown; choose one of adam, sgd",
        ),
        (
            lambda: build.model(
                ml_collections.ConfigDict({"name": "cnn"}), {}, Images(10), row_sparse=False
            ),
            r"model.name='cnn' is unknown; choose one of char_lstm, lenet5, mlp",
        ),
    ],
)
def test_mistakes_name_the_field_and_the_choices(call, message):
    with pytest.raises(build.ConfigError, match=message), build.config_errors():
        call()


def exchanged(**changes):
    config = digits.get_config()
    config.compress.update({"name": "top_k", **changes})
    return config


def test_exchange_of_gradients_or_of_several_steps():
    params = {"params": {"w": jnp.zeros(100)}}
    for every, kind in ((1, compress.ExchangeState), (5, compress.LocalStepsState)):
        config = exchanged(every=every, memory="residual")
        tx = build.optimizer(config.optimizer, False, config.compress)
        assert kind.__name__ in str(jax.tree_util.tree_structure(tx.init(params)))


def test_an_outer_optimizer_moves_what_workers_agree_upon():
    params = {"params": {"w": jnp.ones(4)}}
    moved = {}
    for outer in (None, "sgd", "nesterov"):
        config = exchanged(name="dense", every=1, outer=outer, outer_learning_rate=0.5).compress
        tx = build.compressed(config, optax.sgd(1.0))
        state = tx.init(params)
        moved[outer] = tx.update(params, state, params)[0]["params"]["w"][0]
    # Momentum is .9 unless told otherwise: 1 + .9 of the gradient, and Nesterov's look ahead.
    assert moved == pytest.approx({None: -1.0, "sgd": -0.5, "nesterov": -0.95})
    with pytest.raises(
        ValueError, match=r"compress\.outer='diloco' is unknown; choose one of adam"
    ):
        build.compressed(exchanged(outer="diloco").compress, optax.sgd(1.0))


def test_masks_change_where_workers_have_the_same_weights():
    config = digits.get_config()
    config.compress.update({"name": "sparse_binary", "every": 10})
    config.masks.update({"name": "grow_and_prune", "steps_per_phase": 55})
    sections = (config.optimizer, False, config.compress, config.masks)
    with pytest.raises(ValueError, match=r"masks\.steps_per_phase=55: .* compress\.every=10"):
        build.optimizer(*sections, "workers")
    build.optimizer(*sections)  # One worker agrees with himself.


@pytest.mark.parametrize(
    ("changes", "row_sparse", "message"),
    [
        ({"name": "topk"}, False, "compress.name='topk' is unknown; choose one of "),
        ({"memory": "none"}, False, "compress.memory='none' is unknown; choose one of "),
        ({"density": 2.0}, False, "density=2.0"),
        (
            {"name": "low_rank"},
            False,
            r"compress.name='low_rank' needs compress\.rank: add --config\.compress\.rank=<value>",
        ),
        ({"name": "low_rank", "rank": 0}, False, "rank=0: must be at least 1"),
        ({"name": "hard_threshold"}, False, r"'hard_threshold' needs compress\.threshold: add"),
        ({"density": None}, False, r"compress.name='top_k' needs compress\.density: add"),
        ({}, True, "row-sparse gradients are not compressed further"),
    ],
)
def test_mistakes_in_the_exchange(changes, row_sparse, message):
    config = exchanged(**changes)
    with pytest.raises(build.ConfigError, match=message), build.config_errors():
        build.optimizer(config.optimizer, row_sparse, config.compress)


@pytest.mark.parametrize("name", sorted(compress.COMPRESSORS))
def test_every_compressor_is_built_from_the_same_section(name):
    # A locked section, as on the command line: every field that is needed is there.
    config = digits.get_config().lock()
    config.compress.update({"name": name, "rank": 2, "threshold": 0.5, "density": 0.1})
    tx = build.optimizer(config.optimizer, False, config.compress)
    variables = {"params": {"w": jnp.zeros((20, 30))}}
    update = jax.eval_shape(lambda: tx.update(variables, tx.init(variables), variables)[0])
    assert update["params"]["w"].shape == (20, 30)
    needed = inspect.signature(compress.COMPRESSORS[name]).parameters.values()
    assert {each.name for each in needed if each.default is each.empty} <= set(config.compress)


def test_adaptive_decay_is_a_switch():
    config = digits.get_config()
    config.backward.adaptive_decay = True
    assert next(iter(build.rules(config.backward).values())).decay == "adaptive"


def test_an_optimizer_setting_of_none_keeps_the_default():
    config = ml_collections.ConfigDict({"name": "sgd", "learning_rate": 0.5, "nesterov": None})
    assert isinstance(build.optimizer(config, row_sparse=False), optax.GradientTransformation)


def test_without_rules_the_model_is_the_plain_one():
    model = build.model(digits.get_config().model, {}, Images(10), row_sparse=False)
    assert model == MLP(hidden=(256, 256), classes=10)


def test_runs_that_differ_in_the_seed_share_compiled_functions():
    frozen = [ml_collections.FrozenConfigDict(digits.get_config()) for _ in range(2)]
    first, second = (
        build.functions(
            config.model, config.backward, config.optimizer, config.compress, Images(10)
        )
        for config in frozen
    )
    assert first is second
    assert isinstance(first[2], step.Functions)


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError), build.config_errors():
        _ = 1 / 0


@pytest.mark.parametrize("name", sorted(masks.METHODS))
def test_every_mask_method_is_built_from_the_same_section(name):
    config = digits.get_config()
    config.masks.name = name
    tx = build.optimizer(config.optimizer, False, sparsity=config.masks)
    params = {
        layer: {"kernel": jnp.ones((8, 8)), "bias": jnp.zeros(8)}
        for layer in ("hidden_0", "hidden_1", "output")
    }
    found = masks.find(jax.eval_shape(tx.init, {"params": params}))
    assert set(found.masks) == {f"params/{layer}/kernel" for layer in params}


def test_leaves_may_have_densities_of_their_own():
    config = digits.get_config()
    config.compress.update({"name": "top_k", "density": 0.25})
    config.compress.overrides = (
        ("params/a/kernel", "top_k", (("density", 0.5),)),
        (".*/bias", "dense", ()),
    )
    config.masks.update({"name": "static", "density": 0.25})
    config.masks.overrides = (("params/a/kernel", 0.5),)
    params = {
        layer: {"kernel": jax.random.normal(jax.random.key(n), (4, 4)), "bias": jnp.ones(4)}
        for n, layer in enumerate("ab")
    }
    tx = build.optimizer(ml_collections.ConfigDict(SGD), False, config.compress)
    update, _ = tx.update({"params": params}, tx.init({"params": params}), {"params": params})
    sent = jax.tree.map(lambda leaf: int((leaf != 0).sum()), update["params"])
    assert sent == {"a": {"kernel": 8, "bias": 4}, "b": {"kernel": 4, "bias": 4}}
    owner = build.optimizer(ml_collections.ConfigDict(SGD), False, sparsity=config.masks)
    found = masks.find(owner.init({"params": params})).masks
    live = {path: int(mask.sum()) for path, mask in found.items()}
    assert live == {"params/a/kernel": 8, "params/b/kernel": 4}
    mistakes = {("nothing", 0.5): r"\['nothing'\] matched no leaf", ("params/.*", 2.0): r"\]=2"}
    for override, message in mistakes.items():
        config.masks.overrides = (override,)
        owner = build.optimizer(ml_collections.ConfigDict(SGD), False, sparsity=config.masks)
        with pytest.raises(ValueError, match=message):
            owner.init({"params": params})


@pytest.mark.parametrize(
    ("changes", "row_sparse", "message"),
    [
        ({"name": "gap"}, False, "masks.name='gap' is unknown; choose one of "),
        ({"density": 2.0}, False, "density=2"),
        ({"structure": (0, 8)}, False, "rows=0"),
        ({"steps_per_phase": None}, False, "needs masks.steps_per_phase: add"),
        ({"overrides": (("x", 0.5),), "distribution": "erk"}, False, "finds densities by itself"),
        ({"overrides": (("x", 0.5),), "name": "snip"}, False, "finds densities by itself"),
        ({}, True, "row-sparse gradients have no masks"),
    ],
)
def test_masks_that_cannot_be_had_say_why(changes, row_sparse, message):
    config = digits.get_config()
    with config.masks.ignore_type():
        config.masks.update({"name": "grow_and_prune", **changes})
    with pytest.raises(ValueError, match=message):
        build.optimizer(config.optimizer, row_sparse, sparsity=config.masks)
