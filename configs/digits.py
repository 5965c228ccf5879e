"""Memorized sparse backpropagation on the digits inside scikit-learn: the small job of every machine.

Setting: MLP 64-256-256-10, batch 32, Adam 1e-3, mean loss, 15 epochs, 3 of 256 gradient entries
kept, decay .8.

    python -m experiments.main --config=configs/digits.py --workdir=runs/digits
    python -m experiments.main --config=configs/digits.py --workdir=runs/digits_sbp \
        --config.backward.rule=top_k --config.backward.density=0.04

Expect: test accuracy .955 +- .006 over 3 seeds (SBP .83 +- .09, dense .982 +- .004). Time: about
10 s on 2 CPU cores, most of it start and compilation.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """The fields that every config has."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.epochs = 15
    config.steps = config_dict.placeholder(int)  # Ends the run sooner, also within an epoch.
    config.workers = 1  # Simulated on one device; with several processes each device is one.
    # Optimizer steps per call of the compiled program, at most an epoch; 1 for convolutions on a CPU, which XLA has
    # no fast form of inside a loop.
    config.steps_per_call = 1000
    config.eval_every = 1  # Epochs.
    config.checkpoint_every = 5  # Epochs; the last one always.
    config.angle_examples = 256  # Training examples of the gradient angle; 0 leaves it out.

    config.data = ml_collections.ConfigDict()
    config.data.name = "digits"
    config.data.path = ""  # Empty: $SPARSETRAIN_DATA/<name>, then tensorflow-datasets.
    config.data.batch_size = 32

    config.model = ml_collections.ConfigDict()
    config.model.name = "mlp"
    config.model.hidden = (256, 256)
    config.model.dropout = 0.0
    config.model.activation = "relu"

    # A rule takes of these settings what it knows: `decay` does nothing to `top_k`.
    config.backward = ml_collections.ConfigDict()
    config.backward.rule = (
        "memorized_top_k"  # dense, top_k, memorized_top_k, unified_top_k, random_k.
    )
    config.backward.layers = r".*hidden.*/kernel"
    config.backward.density = 0.012
    config.backward.decay = 0.8
    config.backward.adaptive_decay = False  # A decay that finds itself in the place of the number.
    config.backward.row_groups = 8
    config.backward.memory = "mean"  # Or slot.
    config.backward.padded = False  # Whether rows without a gradient are padding, to a memory.
    config.backward.score = "l1"  # Or l2.
    config.backward.block = 1
    config.backward.key = 0  # Of random_k.
    config.backward.row_sparse = False  # Kernel gradients that never become dense.
    # Tried first: ((path regex, rule name, ((setting, value), ...)), ...).
    config.backward.overrides = ()

    # What a worker would send of each gradient (or, with `every` above 1, of several steps).
    config.compress = ml_collections.ConfigDict()
    config.compress.name = "none"  # Or top_k, sparse_binary, layerwise, ...
    config.compress.density = 0.01
    config.compress.rank = config_dict.placeholder(int)  # Of low_rank, which needs one.
    config.compress.threshold = config_dict.placeholder(float)  # Of hard_threshold, likewise.
    config.compress.every = 1  # Local optimizer steps between two exchanges.
    # Of local steps: "first" or "all" moments are zeroed where something was just sent.
    config.compress.momentum_masking = config_dict.placeholder(str)
    # Of local steps: "nesterov" (DiLoCo), "sgd" or "adam" moves what workers agree upon; None takes their mean.
    config.compress.outer = config_dict.placeholder(str)
    config.compress.outer_learning_rate = 0.7
    config.compress.outer_momentum = 0.9
    config.compress.memory = "residual"  # Or momentum_correction, no_memory.
    config.compress.momentum = 0.9  # Of momentum_correction, and of sign.
    config.compress.key = 0  # Of randomised compressors.
    # Tried first: ((path regex, compressor name, ((setting, value), ...)), ...); paths begin with "params/".
    config.compress.overrides = ()

    # Which weights there are. A method takes of these settings what it knows; times are in optimizer steps.
    config.masks = ml_collections.ConfigDict()
    config.masks.name = "none"  # Or grow_and_prune, gradual, rigl, evolutionary, static, ...
    config.masks.density = 0.1
    config.masks.dense = config_dict.placeholder(str)  # Path regex of leaves that are never masked.
    config.masks.overrides = ()  # Densities of their own, tried first: ((path regex, density), ...).
    # Of grow_and_prune: (name, path regex), in the order in which they are grown.
    config.masks.partitions = (
        ("first", r"params/hidden_0/.*"),
        ("second", r"params/hidden_1/.*"),
        ("output", r"params/output/.*"),
    )
    config.masks.steps_per_phase = 50
    config.masks.phases = 6
    config.masks.order = "cyclic"  # Or random.
    config.masks.distribution = "uniform"  # Or erk, global; papers of snip and grasp: global.
    config.masks.structure = "unstructured"  # Or (rows, columns) of a block.
    config.masks.begin = 50  # Of gradual and dpf: first and last pruning; of admm: its pull.
    config.masks.end = 400
    config.masks.every = 50  # Between changes of the masks.
    config.masks.until = 500  # Of rigl, evolutionary, ...: when changes end.
    config.masks.at = 250  # Of one_shot and iterative.
    config.masks.before = ()  # Prunings before it: (steps, density); of admm (first, last step, density).
    config.masks.rho = 1e-3  # Of admm.
    config.masks.learning_rate = 1e-3  # Of deep_rewiring's walk.
    config.masks.key = 0

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adam"  # Or sgd.
    config.optimizer.learning_rate = 1e-3
    return config
