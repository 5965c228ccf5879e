"""Table 4 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): the big
Transformer on WMT-14 En-De.

    python -m experiments.main --config=configs/gap_table4.py:c_gap_3_80 --workdir=runs/c_gap_3_80
    python -m experiments.main --config=configs/gap_table4.py:c_gap_3_80_small --workdir=runs/c_gap_3_80_small

Setting of the paper: Adam, 8.46e-4 with the inverse square root, 30 phases (P-GaP: rounds of all partitions) of 10
epochs, 40 of fine-tuning, uniform, embeddings dense. Rows are <method>_<kappa>_<sparsity>.

| row | published SacreBLEU at 80% / 90% |
| --- | --- |
| dense | 27.6 |
| prune_from_dense_80, prune_from_dense_90 | 27.1 / 25.7 |
| c_gap_3_80, c_gap_3_90 | 27.6 / 27.7 |
| c_gap_6_80, c_gap_6_90 | 27.6 / 27.1 |
| p_gap_3_80, p_gap_3_90 | 27.9 / 27.3 |
| p_gap_6_80, p_gap_6_90 | 27.7 / 26.9 |

Differs from the paper:
  1. Batches are of 1,024 pairs with 40 places for words a side, where the paper's are of 5,120 words on each of 8
     workers; a batch here has no lengths of its own.
  2. WMT-14 has no reader for the loop; the small rows take Multi30k. Scored is the share of right words: translations
     by beam search, and so BLEU, the loop makes of recurrent models only.
Expect: other scores than the published. Time: the paper had 8 V100 a node and gives none."""

import functools

import ml_collections

from configs import gap_rows, rows

gap = functools.partial(gap_rows.gap_row, gap_rows.transformer)
# 40 dense epochs, one pruning by magnitude, and 40 epochs more.
one_shot = functools.partial(gap_rows.one_shot_row, gap_rows.transformer)

ROWS: dict[str, rows.Row] = {
    "dense": lambda small: gap_rows.dense(gap_rows.transformer(small)),
    "prune_from_dense_80": one_shot(0.2),
    "prune_from_dense_90": one_shot(0.1),
    **{
        f"{name}_gap_{kappa}_{percent}": gap(1 - percent / 100, kappa, order=order)
        for name, order in (("c", "cyclic"), ("p", "parallel"))
        for kappa in (3, 6)
        for percent in (80, 90)
    },
}


def get_config(row: str = "c_gap_3_80") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
