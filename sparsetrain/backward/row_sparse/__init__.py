"""The fast path: kernel gradients that stay row-sparse, and optimizers that update only the touched rows."""

from sparsetrain.backward.row_sparse.adam import AdamState, adam
from sparsetrain.backward.row_sparse.clip import clip_by_global_norm
from sparsetrain.backward.row_sparse.gradient import RowSparse, is_row_sparse
from sparsetrain.backward.row_sparse.sgd import SgdState, sgd

__all__ = [
    "AdamState",
    "RowSparse",
    "SgdState",
    "adam",
    "clip_by_global_norm",
    "is_row_sparse",
    "sgd",
]
