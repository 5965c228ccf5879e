"""Stands for the tables of "dynamic layer-wise sparsification", which are not known to us: a matrix of our own.

    python -m experiments.main --config=configs/dls_matrix.py:resnet20_dls1_1 --workdir=runs/dls1
    python -m experiments.main --config=configs/dls_matrix.py:resnet20_dls1_1_small --workdir=runs/dls1_small

Rows are <network>_<method>_<percent>: networks resnet20, vgg16 and char_lstm; methods dense, global_top_k,
layerwise_top_k, dls1, dls4 and dls_inf (1, 4 or all adjustments a step), deft (densities by norm, once a step);
percent sent 1, 01 (.1) and 001 (.01); dense has none. Four workers, the settings of the SBC jobs. experiments/dls has
the spread of thresholds and the overlap with the global top-k, which the loop does not measure.

Expect: nothing published is known; dls_inf sends what global_top_k does. Time: not measured.
"""

import functools
from typing import Any

import ml_collections

from configs import rows, sbc_table1

METHODS: dict[str, dict[str, Any]] = {
    "global_top_k": {"name": "global_top_k"},
    "layerwise_top_k": {"name": "top_k"},
    "dls1": {"name": "layerwise", "steps": 1},
    "dls4": {"name": "layerwise", "steps": 4},
    "dls_inf": {"name": "layerwise_optimal"},
    "deft": {"name": "norm_proportional"},
}
DENSITIES = {"1": 0.01, "01": 0.001, "001": 0.0001}


def images(model: dict[str, Any], small: bool) -> ml_collections.ConfigDict:
    data = "cifar10-png-subset" if small else "cifar10"
    tx = sbc_table1.momentum(0.01, 30_000, 50_000)
    config = rows.config("images", data, 128, model, epochs=1, optimizer=tx, sizes=rows.CIFAR)
    return rows.budget(config, 50 if small else 60_000, 7 if small else 89)


def resnet20(small: bool) -> ml_collections.ConfigDict:
    return images({"name": "resnet", "blocks": 1 if small else 3}, small)


def vgg16(small: bool) -> ml_collections.ConfigDict:
    return images({"name": "vgg16", "hidden": (), "width": 8 if small else 64}, small)


JOBS: dict[str, rows.Row] = {
    "resnet20": resnet20,
    "vgg16": vgg16,
    "char_lstm": sbc_table1.char_lstm,
}


def make(job: str, settings: dict[str, Any], small: bool) -> ml_collections.ConfigDict:
    return rows.exchanged(JOBS[job](small), sbc_table1.CLIENTS, **settings)


ROWS: dict[str, rows.Row] = {
    f"{job}_{method}_{percent}": functools.partial(
        make, job, {**METHODS[method], "density": DENSITIES[percent]}
    )
    for job, method, percent in rows.product(JOBS, METHODS, DENSITIES)
} | {f"{job}_dense": functools.partial(make, job, sbc_table1.METHODS["baseline"]) for job in JOBS}


def get_config(row: str = "resnet20_dls1_1") -> ml_collections.ConfigDict:
    """The config of a row."""
    return rows.chosen(row, ROWS)
