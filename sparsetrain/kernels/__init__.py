"""Hot operations, one folder each: its definition in plain JAX, and kernels for GPU and TPU."""

from sparsetrain.kernels.block_column_matmul import block_column_matmul
from sparsetrain.kernels.block_column_outer import block_column_outer
from sparsetrain.kernels.block_sparse_matmul import block_sparse_matmul
from sparsetrain.kernels.block_top_k_feedback import block_top_k_feedback
from sparsetrain.kernels.count_above import count_above
from sparsetrain.kernels.dispatch import IMPLEMENTATIONS, prefer

__all__ = [
    "IMPLEMENTATIONS",
    "block_column_matmul",
    "block_column_outer",
    "block_sparse_matmul",
    "block_top_k_feedback",
    "count_above",
    "prefer",
]
