"""Table 8 of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857): cyclic and
random partitions of the Transformer, C-GaP at 90%.

    python -m experiments.main --config=configs/gap_table8.py:random --workdir=runs/random
    python -m experiments.main --config=configs/gap_table8.py:random_small --workdir=runs/random_small

Settings are those of Table 4, kappa = 3.

| row | published SacreBLEU |
| --- | --- |
| cyclic | 27.7 |
| random | 27.0 |
| random_global | 26.9 |

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
    "cyclic": gap(0.1, 3),
    "random": gap(0.1, 3, order="random"),
    "random_global": gap(0.1, 3, order="random", distribution="global"),
}


def get_config(row: str = "random") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
