"""Reads results: angles, convergence, selections, costs."""

from sparsetrain.analysis.angle import angle, angle_per_leaf, full_data_gradient
from sparsetrain.analysis.average_precision import average_precision
from sparsetrain.analysis.convergence import (
    Descent,
    contraction,
    convex_smooth_angle,
    estimated_descent,
    step_size,
    steps_to_reach,
)
from sparsetrain.analysis.estimate import Estimate, estimate, residual_bytes, tree_bytes
from sparsetrain.analysis.flops import FlopCount, Layer, backward_flops, layer_of, total_flops
from sparsetrain.analysis.sparsifying import Verdict, check_sparsifying, cosine

__all__ = [
    "Descent",
    "Estimate",
    "FlopCount",
    "Layer",
    "Verdict",
    "angle",
    "angle_per_leaf",
    "average_precision",
    "backward_flops",
    "check_sparsifying",
    "contraction",
    "convex_smooth_angle",
    "cosine",
    "estimate",
    "estimated_descent",
    "full_data_gradient",
    "layer_of",
    "residual_bytes",
    "step_size",
    "steps_to_reach",
    "total_flops",
    "tree_bytes",
]
