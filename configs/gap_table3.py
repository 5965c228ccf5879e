"""Table 3 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): PointNet++ on
ShapeNet.

    python -m experiments.main --config=configs/gap_table3.py:c_gap_80 --workdir=runs/c_gap_80
    python -m experiments.main --config=configs/gap_table3.py:c_gap_80_small --workdir=runs/c_gap_80_small

Setting of the paper: 2,048 points, batch 32, SGD with momentum .9, .001 in steps, weight decay 1e-4; 40 phases
(P-GaP: 10 rounds) of 25 epochs and 250 of fine-tuning, the best model of all; uniform on all layers; four partitions,
three of the backbone and the head.

| row | published class / instance mIoU |
| --- | --- |
| dense | 82.5 / 85.4 |
| prune_from_dense_80 | 79.1 / 84.5 |
| prune_from_dense_90 | 77.1 / 84.0 |
| c_gap_80 | 82.9 / 85.8 |
| p_gap_80 | 80.8 / 85.5 |
| c_gap_90 | 79.5 / 85.1 |
| p_gap_90 | 74.0 / 83.7 |

prune_from_dense is ADMM behind 250 dense epochs; that 250 epochs are pulled and 250 more fine-tuned is as in Table 1.

Differs from the paper:
  1. It names no steps of the learning rate: two thirds and five sixths of each phase.
  2. There is no reader of ShapeNet: the small rows draw shapes, whose figures are not to be compared with these.
Expect: the published figures, on ShapeNet. Time: the paper had 8 V100 and gives none.
"""

import functools

import ml_collections

from configs import gap_rows, rows

gap = functools.partial(gap_rows.gap_row, gap_rows.pointnet2, kappa=4)

ROWS: dict[str, rows.Row] = {
    "dense": lambda small: gap_rows.dense(gap_rows.pointnet2(small)),
    "prune_from_dense_80": gap_rows.admm_row(gap_rows.pointnet2, 0.2),
    "prune_from_dense_90": gap_rows.admm_row(gap_rows.pointnet2, 0.1),
    "c_gap_80": gap(0.2),
    "p_gap_80": gap(0.2, order="parallel"),
    "c_gap_90": gap(0.1),
    "p_gap_90": gap(0.1, order="parallel"),
}


def get_config(row: str = "c_gap_80") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
