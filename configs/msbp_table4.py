"""Table 4 of "Memorized Sparse Backpropagation" (arXiv 1905.10194): LSTM translators with attention.

    python -m experiments.main --config=configs/msbp_table4.py:en_vi_msbp --workdir=runs/en_vi_msbp
    python -m experiments.main --config=configs/msbp_table4.py:en_vi_msbp_small --workdir=runs/en_vi_small

Setting of the paper: 3 + 3 layers of 512, Luong's attention, Adam 1e-3, batch 64, 40 epochs and dropout .4 (En-Vi) or
80 and .3 (Chs-En), density 1/16, decay .05, beams of 10; rules act on the encoder and on the decoder in turn.

| row | published BLEU, dev / test |
| --- | --- |
| en_vi_dense | 25.87 / 28.45 |
| en_vi_sbp | 26.64 / 28.94 |
| en_vi_msbp | 26.53 / 29.10 |
| chs_en_dense | 38.54 / 35.86 |
| chs_en_sbp | 38.74 / 35.94 |
| chs_en_msbp | 38.28 / 35.98 |

Differs from the paper:
  1. Its pairs have no reader here (IWSLT 2015 En-Vi, LDC); the small rows take Multi30k English to German.
  2. The encoder has the even steps and the decoder the odd ones, which the paper leaves open.
  3. Words behind the end of a sentence have no part in the memories (`backward.padded`); the paper says nothing of
     them.
Expect: other data, other figures. Time: the paper gives none.
"""

import functools

import ml_collections

from configs import rows

ENCODER, DECODER = r"encoder/.*/kernel", r"(attention|decoder/.*)/kernel"
# Data, epochs, dropout.
PAIRS = {"en_vi": ("iwslt15-en-vi", 40, 0.4), "chs_en": ("ldc-zh-en", 80, 0.3)}


def make(pair: str, rule: str, small: bool) -> ml_collections.ConfigDict:
    data, epochs, dropout = PAIRS[pair]
    size = {"embedding": 64, "hidden": 64, "layers": 1} if small else {"hidden": 512, "layers": 3}
    task = {"name": "translation", "length": 20 if small else 50, "beam": 4 if small else 10}
    config = rows.config(
        task,
        "multi30k-en-de" if small else data,
        64,
        {"name": "seq2seq", "dropout": dropout, **size},
        epochs=2 if small else epochs,
    )
    config.backward.padded = True
    config = rows.thinned(config, rule, ENCODER, 1 / 16, 0.05)
    if rule != "dense":
        config.backward.overrides = ((DECODER, config.backward.rule, ()),)
        config.backward.turns = (ENCODER, DECODER)
    return config


ROWS: dict[str, rows.Row] = {
    f"{pair}_{rule}": functools.partial(make, pair, rule)
    for pair, rule in rows.product(PAIRS, ("dense", "sbp", "msbp"))
}


def get_config(row: str = "en_vi_msbp") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
