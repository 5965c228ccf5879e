"""Table 7 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): cyclic and
random partitions of ResNet-50, C-GaP at 90%.

    python -m experiments.main --config=configs/gap_table7.py:random --workdir=runs/random
    python -m experiments.main --config=configs/gap_table7.py:random_small --workdir=runs/random_small

Settings are those of Table 1, non-uniform: one threshold for all layers, none dense.

| row | published top-1 |
| --- | --- |
| cyclic | 77.9 |
| random | 77.8 |

Differs from the paper:
  1. The loop holds its examples in memory, so that a full row is refused for ImageNet; mirrored images are all of the
     "standard augmentation" it can make. The small rows train a narrow network on 5,000 exact images of CIFAR-10.
Expect: the published figures. Time: the paper had 8 V100 and gives none.
"""

import functools

import ml_collections

from configs import gap_rows, rows

gap = functools.partial(gap_rows.gap_row, gap_rows.resnet50, 0.1, kappa=4, distribution="global")

ROWS: dict[str, rows.Row] = {
    "cyclic": gap(order="cyclic"),
    "random": gap(order="random"),
}


def get_config(row: str = "random") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
