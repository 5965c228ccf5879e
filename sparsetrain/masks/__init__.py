"""Sparse weights: optax wrappers that own the masks."""

from sparsetrain.masks.distribution import densities, erk, uniform
from sparsetrain.masks.evolutionary import evolutionary
from sparsetrain.masks.export import Exported, export, load
from sparsetrain.masks.flops import Flops, flops
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
    "Exported",
    "Flops",
    "MaskState",
    "Partitions",
    "Phases",
    "apply",
    "block",
    "combine",
    "densities",
    "erk",
    "evolutionary",
    "export",
    "find",
    "flops",
    "gradual",
    "grasp_scores",
    "grow_and_prune",
    "load",
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
