"""Grow-and-prune of ResNet-50 on ImageNet, table 1 of Ma et al. (arXiv 2106.09857).

Setting of the paper: batch 2048, SGD with momentum .875, learning rate 2.048 under a cosine after two epochs of
linear warm-up, weight decay 3.05e-5; C-GaP with kappa = 4, K = 28 phases (7 rounds) of T = 30 epochs, T' = 150 of
fine-tuning: 990 epochs. Uniform 90%, the first convolution and the classifier dense.

    python -m experiments.gap_settings --config=configs/gap_resnet50_imagenet.py
    python -m experiments.gap_settings --config=configs/gap_resnet50_imagenet.py \
        --config.masks.density=0.2 --config.masks.order=parallel --config.masks.phases=8

The command shows partitions, phases and sizes without training; the second line is P-GaP at 80%, whose phases are
rounds of four workers: 8 x 30 + 150 epochs by the clock, 1110 of all workers together.
Expect: paper's top-1 of 76.3% at 90%, 77.9% at 80%, dense 78.2%; not run here. Time: seconds for the command.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The paper's fields."""
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.data = ml_collections.ConfigDict()
    config.data.name = "imagenet2012"
    config.data.batch_size = 2048
    config.data.steps_per_epoch = 1_281_167 // 2048

    config.model = ml_collections.ConfigDict()
    config.model.name = "resnet50"
    config.model.classes = 1000

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 2.048
    config.optimizer.momentum = 0.875
    config.optimizer.weight_decay = 3.05e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 2 * config.data.steps_per_epoch

    config.masks = ml_collections.ConfigDict()
    config.masks.density = 0.1  # Or .2.
    config.masks.distribution = "uniform"  # Or "global": the paper's non-uniform.
    config.masks.dense = "(conv|output)/kernel"
    config.masks.order = "cyclic"  # Or "random", or "parallel": P-GaP, with phases = 8 rounds.
    config.masks.phases = 28  # K.
    config.masks.epochs_per_phase = 30  # T.
    config.masks.fine_tune_epochs = 150  # T'.
    # Cut by the last three down-samplings. P-GaP takes biases and norms from a partition's owner too.
    config.masks.partitions = (
        ("stage_0", r"(conv|norm|stage_0_block_\d+)/.*"),
        ("stage_1", r"stage_1_block_\d+/.*"),
        ("stage_2", r"stage_2_block_\d+/.*"),
        ("stage_3", r"(stage_3_block_\d+|output)/.*"),
    )
    return config
