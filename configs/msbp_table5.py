"""Table 5 of "Memorized Sparse Backpropagation" (arXiv 1905.10194): MNIST at extreme sparsity.

    python -m experiments.main --config=configs/msbp_table5.py:msbp_001 --workdir=runs/msbp_001
    python -m experiments.main --config=configs/msbp_table5.py:msbp_001_small --workdir=runs/msbp_001_small

Setting of the paper: MLP 784-5000-5000-10, 5 or 10 of 5000 entries kept, decay .8, batch 32, Adam 1e-3.

| row | published accuracy | backward, all (s) |
| --- | --- | --- |
| dense | 98.10 | 3667.5, 5744.1 |
| sbp_001 | 96.19 | 57.0, 2131.8 |
| msbp_001 | 97.71 | 58.8, 2139.0 |
| sbp_002 | 96.22 | 102.1, 2196.4 |
| msbp_002 | 98.16 | 104.7, 2206.8 |

Differs from the paper:
  1. It names neither epochs nor dropout here: the 20 and .1 of its Table 2.
Expect: the published accuracies. Time: the paper's is of a Core i5-8400; nothing is claimed here.
"""

import functools

import ml_collections

from configs import rows


def make(rule: str, density: float, small: bool) -> ml_collections.ConfigDict:
    width = 1000 if small else 5000
    model = {"name": "mlp", "hidden": (width, width), "dropout": 0.1}
    config = rows.config("images", "mnist", 32, model, epochs=1 if small else 20, sizes=rows.MNIST)
    return rows.thinned(config, rule, r"hidden_\d/kernel", density, 0.8)


ROWS: dict[str, rows.Row] = {
    "dense": functools.partial(make, "dense", 1.0),
    "sbp_001": functools.partial(make, "sbp", 0.001),
    "msbp_001": functools.partial(make, "msbp", 0.001),
    "sbp_002": functools.partial(make, "sbp", 0.002),
    "msbp_002": functools.partial(make, "msbp", 0.002),
}


def get_config(row: str = "msbp_001") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
