"""Which entries to keep."""

from sparsetrain.selection.exact import count, top_k_columns, top_k_mask
from sparsetrain.selection.random_k import random_columns
from sparsetrain.selection.structured import column_scores, top_columns, union_columns

__all__ = [
    "column_scores",
    "count",
    "random_columns",
    "top_columns",
    "top_k_columns",
    "top_k_mask",
    "union_columns",
]
