"""Table 3 of "Memorized Sparse Backpropagation" (arXiv 1905.10194): TextCNN on subjectivity and polarity.

    python -m experiments.main --config=configs/msbp_table3.py:polarity_msbp --workdir=runs/polarity_msbp
    python -m experiments.main --config=configs/msbp_table3.py:polarity_msbp --workdir=runs/polarity_msbp_1 \
        --config.task.fold=1 --config.seed=1

Setting of the paper: windows of 3, 4 and 5 words, 100 maps each, Adam 1e-3, batch 32, 10 epochs, density .05, the
mean of ten runs: folds 0 to 9 here.

| row | published accuracy |
| --- | --- |
| subjectivity_dense | 93.66 |
| subjectivity_sbp | 93.77 |
| subjectivity_msbp | 93.80 |
| polarity_dense | 80.89 |
| polarity_sbp | 81.12 |
| polarity_msbp | 81.48 |

Differs from the paper:
  1. It names no dropout: Kim's .5. Embeddings of 300 start at random.
  2. It does not say among what of a convolution k counts: all entries of an example here.
Expect: below the published figures, which may have used trained embeddings. Time: the paper gives none.
"""

import functools

import ml_collections

from configs import rows

DATA = {"subjectivity": ("subjectivity", 0.6), "polarity": ("sentence-polarity", 0.3)}


def make(data: str, rule: str, small: bool) -> ml_collections.ConfigDict:
    name, decay = DATA[data]
    model = {"name": "text_cnn", "maps": 16 if small else 100, "embedding": 50 if small else 300}
    task = {"name": "sentences", "fold": 0}
    config = rows.config(task, name, 32, model, epochs=2 if small else 10)
    return rows.thinned(config, rule, r"conv_\d/kernel", 0.05, decay)


ROWS: dict[str, rows.Row] = {
    f"{data}_{rule}": functools.partial(make, data, rule)
    for data, rule in rows.product(DATA, ("dense", "sbp", "msbp"))
}


def get_config(row: str = "polarity_msbp") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
