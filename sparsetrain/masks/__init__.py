"""Sparse weights: optax wrappers that own the masks."""

import importlib
from typing import Any

from sparsetrain.masks.admm import admm
from sparsetrain.masks.compact import Compact, compact, expand, expand_params
from sparsetrain.masks.compact_step import compact_step, compact_update, is_boundary
from sparsetrain.masks.deep_rewiring import deep_rewiring
from sparsetrain.masks.distribution import densities, erk, uniform
from sparsetrain.masks.dpf import dpf
from sparsetrain.masks.dynamic_reparameterization import dynamic_reparameterization
from sparsetrain.masks.evolutionary import evolutionary
from sparsetrain.masks.export import Exported, export, load
from sparsetrain.masks.flops import Flops, flops
from sparsetrain.masks.gradual import gradual
from sparsetrain.masks.grow_and_prune import grow_and_prune
from sparsetrain.masks.iterative import iterative
from sparsetrain.masks.live_blocks import live_blocks
from sparsetrain.masks.methods import METHODS, report
from sparsetrain.masks.one_shot import one_shot
from sparsetrain.masks.parallel import combine
from sparsetrain.masks.partition import Partitions, partitions, prunable
from sparsetrain.masks.rigl import rigl
from sparsetrain.masks.schedule import Phases, phases
from sparsetrain.masks.scores import grasp_scores, snip_scores
from sparsetrain.masks.shadow import forward_params
from sparsetrain.masks.soft_threshold import soft_threshold
from sparsetrain.masks.static import static
from sparsetrain.masks.structure import block, n_m
from sparsetrain.masks.summary import summary
from sparsetrain.masks.wrapper import MaskState, apply, are_in, find

__all__ = [
    "METHODS",
    "Compact",
    "Exported",
    "Flops",
    "MaskState",
    "Partitions",
    "Phases",
    "admm",
    "apply",
    "are_in",
    "block",
    "combine",
    "compact",
    "compact_step",
    "compact_update",
    "deep_rewiring",
    "densities",
    "dpf",
    "dynamic_reparameterization",
    "erk",
    "evolutionary",
    "expand",
    "expand_params",
    "export",
    "find",
    "flops",
    "forward_params",
    "gradual",
    "grasp_scores",
    "grow_and_prune",
    "is_boundary",
    "iterative",
    "linen",
    "live_blocks",
    "load",
    "n_m",
    "nnx",
    "one_shot",
    "partitions",
    "phases",
    "prunable",
    "report",
    "rigl",
    "snip_scores",
    "soft_threshold",
    "static",
    "summary",
    "uniform",
]


def __getattr__(name: str) -> Any:
    # The adapters import flax, which the core does not depend on.
    if name in ("linen", "nnx"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
