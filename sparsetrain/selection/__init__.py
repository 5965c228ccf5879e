"""Which entries to keep."""

from sparsetrain.selection.entries import entries_of_packed, top_k_entries, top_k_entries_of
from sparsetrain.selection.exact import count, top_k_columns, top_k_mask
from sparsetrain.selection.hierarchical import top_k_hierarchical
from sparsetrain.selection.mask import top_k_mask_flat, top_k_masks
from sparsetrain.selection.pattern import magnitude_of, magnitude_patterns
from sparsetrain.selection.per_leaf import Ranked, counts_per_leaf, packed_masks, ranked
from sparsetrain.selection.random_k import random_columns
from sparsetrain.selection.sampled import sampled_threshold
from sparsetrain.selection.structured import column_scores, top_columns, union_columns
from sparsetrain.selection.threshold import kth_magnitude, kth_magnitude_of
from sparsetrain.selection.words import compact

__all__ = [
    "Ranked",
    "column_scores",
    "compact",
    "count",
    "counts_per_leaf",
    "entries_of_packed",
    "kth_magnitude",
    "kth_magnitude_of",
    "magnitude_of",
    "magnitude_patterns",
    "packed_masks",
    "random_columns",
    "ranked",
    "sampled_threshold",
    "top_columns",
    "top_k_columns",
    "top_k_entries",
    "top_k_entries_of",
    "top_k_hierarchical",
    "top_k_mask",
    "top_k_mask_flat",
    "top_k_masks",
    "union_columns",
]
