"""Grow-and-prune of the big Transformer on WMT-14 En-De, table 4 of Ma et al. (arXiv 2106.09857).

Setting of the paper and of its code: the big model (width 1024, 6 + 6 layers) with norms first and one shared
embedding, 5,120 tokens a batch on each of 8 workers, Adam (.9, .997), learning rate 8.46e-4 with the inverse square
root after 4,000 updates of warm-up, label smoothing .1; C-GaP with kappa = 3 (encoder, first and second half of the
decoder), K = 30 phases (10 rounds) of T = 10 epochs, T' = 40 of fine-tuning. Uniform 90%, the embedding dense.

    python -m experiments.gap_settings --config=configs/gap_transformer_wmt14.py
    python -m experiments.gap_settings --config=configs/gap_transformer_wmt14.py --config.masks.density=0.2

The command shows partitions, phases and sizes without training. The size of the vocabulary and the updates of an
epoch depend on how the text is prepared: those here are round numbers for 32,000 merges and 4.5 million pairs.
Expect: paper's SacreBLEU of 27.7 at 90%, 27.6 at 80%, dense 27.6; not run here. Time: seconds for the command."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The paper's fields."""
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.data = ml_collections.ConfigDict()
    config.data.name = "wmt14-en-de"
    config.data.batch_size = 8 * 5120  # Tokens.
    config.data.steps_per_epoch = 3_500

    config.model = ml_collections.ConfigDict()
    config.model.name = "transformer"
    config.model.symbols = 33_000
    config.model.width = 1024
    config.model.feed = 4096
    config.model.heads = 16
    config.model.layers = 6
    config.model.dropout = 0.1
    config.model.pre_norm = True
    config.model.shares = True

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 8.46e-4
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.997
    config.optimizer.eps = 1e-9
    config.optimizer.schedule = "inverse_square_root"
    config.optimizer.warmup_steps = 4_000
    config.optimizer.label_smoothing = 0.1

    config.masks = ml_collections.ConfigDict()
    config.masks.density = 0.1  # Or .2.
    config.masks.distribution = "uniform"
    config.masks.dense = "embedding/embedding"
    config.masks.order = "cyclic"  # Or "random", or "parallel": P-GaP, with phases = 10 rounds.
    config.masks.phases = 30  # K.
    config.masks.epochs_per_phase = 10  # T.
    config.masks.fine_tune_epochs = 40  # T'.
    # P-GaP takes biases, norms and the embedding from a partition's owner too.
    config.masks.partitions = (
        ("encoder", r"(encoder_\d+|encoder_norm|embedding)/.*"),
        ("decoder_a", r"decoder_[0-2]/.*"),
        ("decoder_b", r"(decoder_[3-5]|decoder_norm)/.*"),
    )
    return config
