"""Table 2 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): SSD300 on
COCO-2017 at 90%.

    python -m experiments.main --config=configs/gap_table2.py:c_gap --workdir=runs/c_gap
    python -m experiments.main --config=configs/gap_table2.py:c_gap_small --workdir=runs/c_gap_small

Setting of the paper: 300 x 300, batch 64, SGD with momentum .9, 2.6e-3 in steps after 300 iterations of warm-up,
weight decay 5e-4; C-GaP of 40 phases of 32 epochs and 65 of fine-tuning, the best model of all; uniform, the last
layers dense; four partitions, three of the backbone and the head.

| row | published AP at .5:.95 / .5 / .75 |
| --- | --- |
| dense | 25.2 / 42.7 / 25.8 |
| prune_from_dense | 24.3 / 41.1 / 24.8 |
| c_gap | 25.9 / 42.3 / 26.9 |

prune_from_dense is 65 dense epochs, then prunings to 50, 70, 80, 87.5 and 90% with 65 epochs behind each.

Differs from the paper:
  1. It names no steps of the learning rate: two thirds and five sixths of each phase, and of what follows a pruning.
  2. The loop holds its examples in memory and has no reader of COCO for it: the small rows take BCCD.
Expect: the published figures, on COCO. Time: the paper had 8 V100 and gives none.
"""

import ml_collections

from configs import gap_rows, rows

ROWS: dict[str, rows.Row] = {
    "dense": lambda small: gap_rows.dense(gap_rows.ssd(small)),
    "prune_from_dense": gap_rows.pruned_row(gap_rows.ssd, 0.1, 0.5, 0.3, 0.2, 0.125),
    "c_gap": lambda small: gap_rows.gap(gap_rows.ssd(small), 0.1, 4),
}


def get_config(row: str = "c_gap") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
