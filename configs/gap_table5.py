"""Table 5 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): partitions of
ResNet-50, C-GaP at 90%.

    python -m experiments.main --config=configs/gap_table5.py:kappa_4 --workdir=runs/kappa_4
    python -m experiments.main --config=configs/gap_table5.py:kappa_4_small --workdir=runs/kappa_4_small

Settings are those of Table 1, uniform.

| row | published top-1 |
| --- | --- |
| kappa_1 | 75.9 |
| kappa_4 | 76.3 |

Differs from the paper:
  1. The loop holds its examples in memory, so that a full row is refused for ImageNet; mirrored images are all of the
     "standard augmentation" it can make. The small rows train a narrow network on 5,000 exact images of CIFAR-10.
Expect: the published figures. Time: the paper had 8 V100 and gives none.
"""

import ml_collections

from configs import gap_rows, rows

ROWS: dict[str, rows.Row] = {
    "kappa_1": lambda small: gap_rows.gap(gap_rows.resnet50(small), 0.1, 1),
    "kappa_4": lambda small: gap_rows.gap(gap_rows.resnet50(small), 0.1, 4),
}


def get_config(row: str = "kappa_4") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
