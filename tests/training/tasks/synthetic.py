"""A tiny config for every task, on examples that it makes itself; the tests of the loop and of configs share them."""

from typing import Any

import ml_collections

from configs import digits

# Model, settings of the task, and the kernels whose backward pass is thinned.
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "characters": (
        {"name": "char_lstm", "hidden": 8, "embedding": 4, "layers": 1},
        {"length": 10},
        r"lstm_0/input/kernel",
    ),
    "detection": (
        {"name": "ssd300", "stages": (1,), "width": 4, "extras": (2,), "boxes": (4, 4)},
        {},
        r"(stage_0_block_0|extra_0)_?/?conv_1/kernel",
    ),
    "images": ({"name": "mlp", "hidden": (16,)}, {}, r"hidden_0/kernel"),
    "parsing": (
        {"name": "transition_parser", "embedding": 8, "hidden": 16, "activation": "tanh"},
        {"least": 1},
        r"hidden/kernel",
    ),
    "point_clouds": (
        {
            "name": "pointnet2",
            "levels": ((8, ((1.5, 6, (8,)),)),),
            "last": (8,),
            "back": ((8,), (8,)),
            "head": 8,
        },
        {},
        r"(down_0_0|up_0)/dense_0/kernel",
    ),
    "sentences": ({"name": "text_cnn", "embedding": 8, "maps": 4}, {}, r"conv_\d/kernel"),
    "tagging": (
        {"name": "tagger", "embedding": 8, "hidden": 8, "layers": 1, "dropout": 0.1},
        {"least": 1, "length": 5},
        r"(forward|backward)_0/ho/kernel",
    ),
    "translation": (
        {
            "name": "seq2seq",
            "hidden": 8,
            "embedding": 8,
            "layers": 1,
            "cell": "optimized_lstm",
        },
        {"least": 1, "length": 5, "beam": 2},
        r"attention/kernel",
    ),
    "words": (
        {"name": "word_lstm", "hidden": 8, "layers": 1, "scale": 0.3},
        {"length": 5},
        r"lstm_0/ho/kernel",
    ),
}
DECODER = r"decoder/combine/kernel"


def config(task: str, **changes: Any) -> ml_collections.ConfigDict:
    """Two epochs of a task, with a memorized rule, the gradient angle left out."""
    model, settings, layers = SMALL[task]
    config = digits.get_config()
    config.task = ml_collections.ConfigDict({"name": task, **settings})
    config.data.name, config.data.batch_size, config.epochs = "synthetic", 4, 2
    config.model = ml_collections.ConfigDict(model)
    config.backward.layers, config.backward.density = layers, 0.25
    config.optimizer.learning_rate = 0.01
    config.angle_examples = 0
    if task == "sentences":
        # The maximum over time passes back one place a map: one by one, all would be kept.
        config.backward.rule = "unified_top_k"
    if task == "translation":
        config.backward.overrides = ((DECODER, "memorized_top_k", ()),)
        config.backward.turns = (layers, DECODER)
    config.update_from_flattened_dict(changes)
    return config
