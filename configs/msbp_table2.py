"""Table 2 of "Memorized Sparse Backpropagation" (arXiv 1905.10194): MNIST, parsing and part-of-speech tagging.

    python -m experiments.main --config=configs/msbp_table2.py:pos_msbp --workdir=runs/pos_msbp
    python -m experiments.main --config=configs/msbp_table2.py:pos_msbp_small --workdir=runs/pos_msbp_small

Setting of the paper: Adam 1e-3 everywhere; density .04 of 500 (20 entries), output layers dense.

| row | published score | backward, all (s) |
| --- | --- | --- |
| mnist_dense | 97.86 | 67.2, 116.6 |
| mnist_sbp | 97.84 | 6.6, 54.5 |
| mnist_msbp | 98.23 | 6.9, 55.4 |
| parsing_dense | 88.38 UAS | 6447, 9016 |
| parsing_sbp | 88.59 UAS | 682, 2886 |
| parsing_msbp | 89.03 UAS | 684, 2898 |
| pos_dense | 97.27 | 11965, 16052 |
| pos_sbp | 97.34 | 1763, 5738 |
| pos_msbp | 97.50 | 1842, 5849 |

Differs from the paper:
  1. Parsing and tagging are of the Penn Treebank there, which may not be passed on and has no reader here; the small
     rows take UD English EWT.
  2. The tagger's embeddings start at random, not from GloVe.
  3. Words behind the end of a sentence have no part in the tagger's memories (`backward.padded`); the paper says
     nothing of them.
Expect: the published scores, of the MNIST rows; other data give others. Time: that of the paper is of a Core i5-8400,
one thread; nothing of it is claimed here.
"""

import functools

import ml_collections

from configs import rows

GATES = r"(forward|backward)_\d/.*/kernel"


def mnist(rule: str, small: bool) -> ml_collections.ConfigDict:
    model = {"name": "mlp", "hidden": (500, 500), "dropout": 0.1}
    config = rows.config("images", "mnist", 32, model, epochs=2 if small else 20, sizes=rows.MNIST)
    return rows.thinned(config, rule, r"hidden_\d/kernel", 0.04, 0.8)


def parsing(rule: str, small: bool) -> ml_collections.ConfigDict:
    model = {"name": "transition_parser", "hidden": 500, "dropout": 0.2}
    config = rows.config(
        "parsing",
        "ud-english-ewt" if small else "penn-treebank",
        1024,
        model,
        epochs=3 if small else 20,
        optimizer={**rows.ADAM, "clip": 5.0},
    )
    return rows.thinned(config, rule, r"hidden/kernel", 0.04, 0.7)


def pos(rule: str, small: bool) -> ml_collections.ConfigDict:
    model = {"name": "tagger", "hidden": 64 if small else 500, "layers": 2, "dropout": 0.5}
    config = rows.config(
        {"name": "tagging", "length": 40 if small else 100},
        "ud-english-ewt" if small else "penn-treebank",
        128,
        model,
        epochs=3 if small else 10,
    )
    config.backward.padded = True
    return rows.thinned(config, rule, GATES, 0.04, 0.8)


ROWS: dict[str, rows.Row] = {
    f"{job.__name__}_{rule}": functools.partial(job, rule)
    for job in (mnist, parsing, pos)
    for rule in ("dense", "sbp", "msbp")
}


def get_config(row: str = "mnist_msbp") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
