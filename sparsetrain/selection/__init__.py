"""Which entries to keep."""

from sparsetrain.kernels.pattern import magnitude_of, magnitude_patterns
from sparsetrain.selection.entries import top_k_entries, top_k_entries_of
from sparsetrain.selection.exact import count, top_k_columns, top_k_mask
from sparsetrain.selection.hierarchical import top_k_hierarchical
from sparsetrain.selection.layer_entries import top_k_mask_of_each
from sparsetrain.selection.mask import top_k_mask_flat, top_k_masks
from sparsetrain.selection.random_k import random_columns
from sparsetrain.selection.sampled import sampled_threshold
from sparsetrain.selection.structured import (
    column_scores,
    columns_of,
    top_blocks,
    top_columns,
    union_columns,
)
from sparsetrain.selection.threshold import kth_magnitude, kth_magnitude_of
from sparsetrain.selection.words import compact

__all__ = [
    "column_scores",
    "columns_of",
    "compact",
    "count",
    "kth_magnitude",
    "kth_magnitude_of",
    "magnitude_of",
    "magnitude_patterns",
    "random_columns",
    "sampled_threshold",
    "top_blocks",
    "top_columns",
    "top_k_columns",
    "top_k_entries",
    "top_k_entries_of",
    "top_k_hierarchical",
    "top_k_mask",
    "top_k_mask_flat",
    "top_k_mask_of_each",
    "top_k_masks",
    "union_columns",
]
