"""SBC(2) of "Sparse Binary Compression" (arXiv 1805.08768), Table 1: LeNet5-Caffe on MNIST, four workers.

Setting of the paper: 4 clients, batch 128 each, Adam 1e-3, 2,000 iterations (here 18 epochs of 107), 10 local steps
between messages, 1% of the entries sent. SBC(1): every=1, density=.001; SBC(3): every=100, density=.01.

    python -m experiments.main --config=configs/sbc_lenet_mnist.py --workdir=runs/sbc_lenet_mnist
    python -m experiments.launch --processes=4 -- --config=configs/sbc_lenet_mnist.py --workdir=runs/sbc_lenet_4

The first simulates the workers on one device, the second gives each a process. Needs the four MNIST files in
$SPARSETRAIN_DATA/mnist or --config.data.path.
Expect: test accuracy about .990 (.9905 over 3 seeds in experiments/sbc_lenet_mnist, dense there .9904).
Time: convolutions inside a compiled loop are slow on a CPU, about 1 s a step; meant for an accelerator.
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    """The digits config with the paper's network, workers and exchange."""
    config = digits.get_config()
    config.epochs = 18
    config.workers = 4
    config.checkpoint_every = 1
    config.steps_per_call = 10
    config.angle_examples = 0
    config.data.name = "mnist"
    config.data.batch_size = 128
    config.model = ml_collections.ConfigDict({"name": "lenet5"})
    config.backward.rule = "dense"
    config.compress.name = "sparse_binary"
    config.compress.density = 0.01
    config.compress.every = 10
    config.compress.momentum_masking = "first"
    return config
