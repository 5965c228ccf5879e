"""Sparse weights: optax wrappers that own the masks."""

from sparsetrain.masks.distribution import densities, erk, uniform
from sparsetrain.masks.evolutionary import evolutionary
from sparsetrain.masks.gradual import gradual
from sparsetrain.masks.grow_and_prune import grow_and_prune
from sparsetrain.masks.partition import Partitions, partitions, prunable
from sparsetrain.masks.rigl import rigl
from sparsetrain.masks.schedule import Phases, phases
from sparsetrain.masks.static import static
from sparsetrain.masks.structure import block, n_m
from sparsetrain.masks.wrapper import MaskState, apply, find

__all__ = [
    "MaskState",
    "Partitions",
    "Phases",
    "apply",
    "block",
    "densities",
    "erk",
    "evolutionary",
    "find",
    "gradual",
    "grow_and_prune",
    "n_m",
    "partitions",
    "phases",
    "prunable",
    "rigl",
    "static",
    "uniform",
]
