"""All three levers in one run: MSBP backward, SBC(2) between four workers, C-GaP weights.

Setting: LeNet-300-100 on MNIST, 4 workers with a batch of 25 each, Adam 1e-3, 8 epochs of 550 steps. Backward: 10% of
the entries of a hidden layer's output gradient, decay .8. Exchange: 10 local steps, then 1% of the entries of the
difference. Weights: the two hidden layers grow dense in turn, 4 phases of 550 steps; the other 2,200 steps have
10% of their weights. The output layer is dense in both.

    python -m experiments.main --config=configs/three_levers.py --workdir=runs/three_levers

One lever less: --config.backward.rule=dense, --config.masks.name=none, or for a dense exchange at every step
--config.compress.name=dense --config.compress.every=1. A phase must be a multiple of the 10 local steps: workers choose
their masks from weights that all of them have.

Needs the four MNIST files in $SPARSETRAIN_DATA/mnist or --config.data.path.
Expect: test accuracy about .951 (dense .978 in experiments/three_levers) at 1/23 of the operations of the backward
pass, 1/3,900 of the bits and 10% of the weights. Time: two minutes on one CPU core, compilation included.
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    """The digits config with four workers, LeNet-300-100 and MNIST."""
    config = digits.get_config()
    config.epochs = 8
    config.workers = 4
    config.checkpoint_every = 8
    config.angle_examples = 0
    config.data.name = "mnist"
    config.data.batch_size = 25
    config.model.hidden = (300, 100)
    config.backward.density = 0.1
    config.compress.name = "sparse_binary"
    config.compress.density = 0.01
    config.compress.every = 10
    config.compress.momentum_masking = "first"
    config.masks.name = "grow_and_prune"
    config.masks.density = 0.1
    config.masks.dense = "params/output/kernel"
    config.masks.partitions = (("first", "params/hidden_0/.*"), ("second", "params/hidden_1/.*"))
    config.masks.steps_per_phase = 550
    config.masks.phases = 4
    return config
