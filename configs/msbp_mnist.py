"""Table 2 (MNIST) of "Memorized Sparse Backpropagation" (arXiv 1905.10194).

Setting of the paper: MLP 784-500-500-10, batch 32, Adam 1e-3, dropout .1, 20 epochs,
55,000/5,000/10,000 images, 20 of 500 gradient entries kept, decay .8, output layer dense.

    python -m experiments.main --config=configs/msbp_mnist.py --workdir=runs/msbp_mnist
    python -m experiments.main --config=configs/msbp_mnist.py --workdir=runs/sbp_k5 \
        --config.backward.rule=top_k --config.backward.density=0.01

Needs the four MNIST files in $SPARSETRAIN_DATA/mnist or --config.data.path.
Expect: test accuracy about .981 (paper .9823, dense here .983). Time: 1.2 ms a
step, so about a minute, on 2 idle CPU cores.
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    """The digits config with the paper's sizes."""
    config = digits.get_config()
    config.epochs = 20
    config.checkpoint_every = 1
    config.angle_examples = 1024
    config.data.name = "mnist"
    config.model.hidden = (500, 500)
    config.model.dropout = 0.1
    config.backward.density = 0.04
    return config
