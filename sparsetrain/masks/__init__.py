"""Sparse weights: optax wrappers that own the masks."""

from sparsetrain.masks.compact import Compact, compact, expand, expand_params
from sparsetrain.masks.compact_step import compact_step, compact_update, is_boundary
from sparsetrain.masks.distribution import densities, erk, uniform
from sparsetrain.masks.evolutionary import evolutionary
from sparsetrain.masks.gradual import gradual
from sparsetrain.masks.grow_and_prune import grow_and_prune
from sparsetrain.masks.parallel import combine
from sparsetrain.masks.partition import Partitions, partitions, prunable
from sparsetrain.masks.rigl import rigl
from sparsetrain.masks.schedule import Phases, phases
from sparsetrain.masks.scores import grasp_scores, snip_scores
from sparsetrain.masks.static import static
from sparsetrain.masks.structure import block, n_m
from sparsetrain.masks.summary import summary
from sparsetrain.masks.wrapper import MaskState, apply, find

__all__ = [
    "Compact",
    "MaskState",
    "Partitions",
    "Phases",
    "apply",
    "block",
    "combine",
    "compact",
    "compact_step",
    "compact_update",
    "densities",
    "erk",
    "evolutionary",
    "expand",
    "expand_params",
    "find",
    "gradual",
    "grasp_scores",
    "grow_and_prune",
    "is_boundary",
    "n_m",
    "partitions",
    "phases",
    "prunable",
    "rigl",
    "snip_scores",
    "static",
    "summary",
    "uniform",
]
