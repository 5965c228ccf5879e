"""Table 6 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): partitions of
the Transformer, C-GaP at 90%.

    python -m experiments.main --config=configs/gap_table6.py:kappa_3 --workdir=runs/kappa_3
    python -m experiments.main --config=configs/gap_table6.py:kappa_3_small --workdir=runs/kappa_3_small

Settings are those of Table 4.

| row | published SacreBLEU |
| --- | --- |
| kappa_1 | 26.8 |
| kappa_3 | 27.7 |
| kappa_6 | 27.1 |

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

ROWS: dict[str, rows.Row] = {
    "kappa_1": gap(0.1, 1),
    "kappa_3": gap(0.1, 3),
    "kappa_6": gap(0.1, 6),
}


def get_config(row: str = "kappa_3") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
