"""Table 9 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): blocks of 1 x 8
in the Transformer at 80%.

    python -m experiments.main --config=configs/gap_table9.py:c_gap --workdir=runs/c_gap
    python -m experiments.main --config=configs/gap_table9.py:c_gap_small --workdir=runs/c_gap_small

Settings are those of Table 4, kappa = 3. Kernels are inputs x outputs here, so that eight inputs of one output are a
block of 8 rows and 1 column.

| row | published BLEU |
| --- | --- |
| prune_from_dense | 26.1 |
| c_gap | 27.2 |

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
    "prune_from_dense": one_shot(0.2, structure=(8, 1)),
    "c_gap": gap(0.2, 3, structure=(8, 1)),
}


def get_config(row: str = "c_gap") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
