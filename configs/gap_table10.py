"""Table 10 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): the classifier
of ResNet-50, C-GaP.

    python -m experiments.main --config=configs/gap_table10.py:sparse_output_80 --workdir=runs/sparse_output_80
    python -m experiments.main --config=configs/gap_table10.py:sparse_output_80_small --workdir=runs/sparse_small

Settings are those of Table 1, uniform; the rows of RigL are rigl_80, rigl_90, rigl_5x_80 and rigl_5x_90 there.

| row | published top-1 at 80% / 90% |
| --- | --- |
| rigl | 74.6 / 72.0 |
| rigl_5x | 76.6 / 75.7 |
| dense_output | 77.9 / 76.3 |
| sparse_output | 77.8 / 76.4 |

Differs from the paper:
  1. The loop holds its examples in memory, so that a full row is refused for ImageNet; mirrored images are all of the
     "standard augmentation" it can make. The small rows train a narrow network on 5,000 exact images of CIFAR-10.
Expect: the published figures. Time: the paper had 8 V100 and gives none.
"""

import ml_collections

from configs import gap_table1, rows
from configs.gap_table1 import gap

ROWS: dict[str, rows.Row] = {
    **{name: row for name, row in gap_table1.ROWS.items() if name.startswith(("rigl_8", "rigl_9"))},
    **{name: row for name, row in gap_table1.ROWS.items() if name.startswith("rigl_5x")},
    "dense_output_80": gap(0.2, sparse_output=False),
    "dense_output_90": gap(0.1, sparse_output=False),
    "sparse_output_80": gap(0.2, sparse_output=True),
    "sparse_output_90": gap(0.1, sparse_output=True),
}


def get_config(row: str = "sparse_output_80") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
